import ContainerRuntime
import Diagnostics
import ImageFormats
import ImageStore
import LaunchPlan
import LinuxSystem

/// `--app NAME`: one of the applications that an image of apptainer's holds below `/scif/apps` (its user guide, "SCIF
/// Apps"). The image's own scripts set the app's environment and begin its runscript, by the variable set here.
struct ImageApp {
    let name: String
    let verb: String

    init(_ name: String, verb: String) {
        self.name = name
        self.verb = verb
    }

    /// - Throws: `app-unknown`, which names the apps that the image has.
    func apply(to plan: inout LaunchPlan, of image: StoredImage) throws(Diagnostic) {
        let tree: MergedTree
        do throws(SyscallError) { tree = try image.tree() } catch {
            throw Diagnostic(DiagnosticCode("store-unusable"), image.name, reasons: [error.sentence])
        }
        let names = tree.names(in: ImageApp.directory).filter {
            tree.find("\(ImageApp.directory)/\($0)")?.isDirectory == true
        }
        guard image.plan.options.contains(.environmentScripts), names.contains(name) else {
            throw unknown(image, names.sorted())
        }
        if verb == "run", plan.entrypoint == image.plan.entrypoint,
            tree.find("\(ImageApp.directory)/\(name)/scif/runscript")?.isExecutable != true
        {
            throw Diagnostic(
                DiagnosticCode("app-unknown"), "--app \(name)", reasons: ["the app has no runscript"],
                remedies: ["trireme exec --app \(name) IMAGE CMD"])
        }
        for prefix in ["APPTAINER", "SINGULARITY"] { plan.overrides.append(Array("\(prefix)_APPNAME=\(name)".utf8)) }
    }

    private static let directory = "/scif/apps"

    private func unknown(_ image: StoredImage, _ names: [String]) -> Diagnostic {
        if !image.plan.options.contains(.environmentScripts) || names.isEmpty {
            return Diagnostic(
                DiagnosticCode("app-unknown"), "--app \(name)",
                reasons: ["\(image.name) has no apps: those are what apptainer made of %apprun, below /scif/apps"],
                remedies: ["trireme exec IMAGE CMD"])
        }
        return Diagnostic(
            DiagnosticCode("app-unknown"), "--app \(name)", reasons: ["\(image.name) has no app of that name"],
            remedies: NearMiss.nearest(to: name, among: names).map { "did you mean \($0)?" }
                + ["its apps: " + names.joined(separator: ", ")])
    }
}
