import ContainerRuntime
import Diagnostics
import Glibc
import ImageFormats
import ImageStore
import LinuxSystem
import OCIModel
import RegistryClient
import SiteConfiguration
import Synchronization

/// `pull oras://…` and `pull https://…`: a file that is an image. A single-file image stays a file, as
/// apptainer's users expect; an archive goes into the store.
struct FilePullCommand {
    var typed: String
    var source: FileSource
    var output: String?
    var key: String?
    var signature: String?
    var settings: RegistrySettings
    var isQuiet: Bool

    func run() throws {
        let locations = Locations.current()
        let store = ImageStore(locations)
        let target = output ?? source.fileName
        if output != nil, Files.exists(target) { throw exists(target) }
        let progress = Mutex(TransferProgress(verb: "received", isQuiet: isQuiet))
        let pull = FilePull(source, typed: typed, store: store, settings: settings) { done, total in
            progress.withLock { $0.note(done, total) }
        }
        let path = try pull.run(keys: try keys(), signature: signature)
        progress.withLock { $0.finish() }
        defer { unlink(path) }
        let kind: Bool
        do throws(SyscallError) {
            let file = try OwnedDescriptor.open(path, O_RDONLY)
            var start = [UInt8](repeating: 0, count: ImageFile.magicBytes)
            let n = start.withUnsafeMutableBytes { pread(file.raw, $0.baseAddress, $0.count, 0) }
            kind = ImageFile.isImage(Array(start.prefix(max(0, n))))
        } catch { throw Diagnostic(DiagnosticCode("archive-unreadable"), typed, reasons: [error.sentence]) }
        guard kind || output != nil else { return try load(path, store, locations) }
        if Files.exists(target) { throw exists(target) }
        do throws(SyscallError) { try FilePullCommand.move(path, to: target) } catch {
            throw Diagnostic(DiagnosticCode("archive-unwritable"), target, reasons: [error.sentence])
        }
        let shown = target.contains("/") ? target : "./" + target
        Output.standard.line(isQuiet ? shown : "Pulled file: \(shown)")
    }

    private func exists(_ target: String) -> Diagnostic {
        Diagnostic(
            DiagnosticCode("archive-unwritable"), target, reasons: ["it exists"],
            remedies: ["remove it, or --output FILE"])
    }

    private func keys() throws(Diagnostic) -> [SigningKey] {
        guard let key else { return [] }
        if case .artifact = source {
            throw Diagnostic(
                DiagnosticCode("usage"), "--key", reasons: ["what lies in a registry is signed there"],
                remedies: ["a policy with \"require\": \"signed\": TRIREME_POLICY=FILE trireme pull \(typed)"])
        }
        return [try SignatureVerification.key(key)]
    }

    private func load(_ path: String, _ store: ImageStore, _ locations: Locations) throws {
        let report = LoadReport(isQuiet: isQuiet)
        let loaded = try store.load(
            archive: try ImageLoad.open(path, verb: "pull"), subject: typed,
            preparer: PlanCompiler(account: .current(home: locations.home)), progress: report.note)
        report.end()
        for item in loaded {
            Output.standard.line(isQuiet ? item.image.name : "Pulled image: \(item.image.name)")
        }
    }

    /// rename(2), and across file systems a copy that appears whole.
    private static func move(_ from: String, to target: String) throws(SyscallError) {
        if rename(from, target) == 0 { return }
        guard errno == EXDEV else { throw SyscallError("rename", target) }
        let part = target + ".part"
        let input = try OwnedDescriptor.open(from, O_RDONLY)
        let output = try OwnedDescriptor.open(part, O_WRONLY | O_CREAT | O_TRUNC, mode: 0o644)
        while true {
            let n = sendfile(output.raw, input.raw, nil, 16 << 20)
            if n == 0 { break }
            guard n > 0 else {
                let error = SyscallError("sendfile", part)
                unlink(part)
                throw error
            }
        }
        try Files.rename(part, target)
    }
}
