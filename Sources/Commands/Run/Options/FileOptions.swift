import ArgumentParser
import ContainerLaunch
import ContainerRuntime
import Diagnostics
import Glibc
import ImageStore
import LaunchPlan
import LinuxSystem
import SiteConfiguration

/// Files: what of the host the container shows, and where it may write.
struct FileOptions: ContainerOptionGroup {
    static let longNames = [
        "--bind", "--volume", "--mount", "--tmpfs", "--workdir", "--home", "--no-home", "--tmp", "--writable-tmpfs",
        "--read-only",
        "--overlay", "--data",
    ]

    @Option(
        name: [.customShort("B"), .customShort("v"), .long, .customLong("volume")], parsing: .unconditionalSingleValue,
        help: ArgumentHelp(
            "A file or directory of the host inside; several between commas.", valueName: "src[:dst[:ro]]"))
    var bind: [String] = []
    @Option(help: "A mount as docker spells it: type=bind,source=…,target=…,readonly; type=tmpfs; type=image.")
    var mount: [String] = []
    @Option(help: ArgumentHelp("An empty directory in memory.", valueName: "dst[:size=…,mode=…]"))
    var tmpfs: [String] = []
    @Option(name: [.customShort("w"), .long], help: "Start directory.") var workdir: String?
    @Option(help: "host (default), none, tmpfs, a directory, or SRC:DST.") var home: String?
    @Flag(help: "The same as --home none.") var noHome = false
    @Option(help: "/tmp and /var/tmp: host (default for /tmp) or private.") var tmp: String?
    @Flag(help: "A writable root that vanishes with the container.") var writableTmpfs = false
    @Flag(help: "A read-only root (the default).") var readOnly = false
    @Option(help: ArgumentHelp("Keep what is written to the root in this directory.", valueName: "dir[:ro]"))
    var overlay: [String] = []
    @Option(help: ArgumentHelp("Another image or single file, read-only, inside.", valueName: "image:/dst"))
    var data: [String] = []

    func apply(to plan: inout LaunchPlan, in context: LaunchContext) throws(Diagnostic) {
        if let directory = workdir { plan.workingDirectory = Array(directory.utf8) }
        let isWritableByVariable = ForeignVariables.honouredOptions.contains(.writable) && !readOnly && overlay.isEmpty
        if writableTmpfs || isWritableByVariable { plan.options.insert(.writable) }
        switch tmp {
        case nil, "host": break
        case "private": plan.options.insert(.privateTemporary)
        case let other?: throw refused("--tmp \(other)", "is neither host nor private")
        }
        try applyHome(to: &plan, context)
        plan.binds += bind.map { CallerArguments.typed($0, after: ["-B", "-v", "--bind", "--volume"]) }
        for text in mount + tmpfs.map(MountText.temporary) {
            switch try MountText.parse(text, in: context.directory) {
            case .mount(let mount): plan.mounts.append(mount)
            case .image(let name, let destination): try addData(name, at: destination, to: &plan, context)
            }
        }
        for text in data {
            let spelled = text.hasSuffix(":ro") ? String(text.dropLast(3)) : text
            guard let (name, destination) = Self.splitAtPath(spelled) else {
                throw refused("--data \(text)", "not IMAGE:/DST")
            }
            try addData(name, at: destination, to: &plan, context)
        }
        for text in overlay { try addOverlay(text, to: &plan, context) }
    }

    private func refused(_ subject: String, _ reason: String, _ remedies: String...) -> Diagnostic {
        Diagnostic(DiagnosticCode("option-value"), subject, reasons: [reason], remedies: remedies)
    }

    private static func absolute(_ path: String, _ context: LaunchContext) -> String {
        path.hasPrefix("/") || context.directory == nil ? path : (context.directory ?? "") + "/" + path
    }

    /// `NAME:/PATH` at the last place where a path follows a colon.
    private static func splitAtPath(_ text: String) -> (name: String, path: String)? {
        var index = text.endIndex
        while index > text.startIndex {
            index = text.index(before: index)
            let next = text.index(after: index)
            if text[index] == ":", next < text.endIndex, text[next] == "/", index > text.startIndex {
                return (String(text[..<index]), String(text[next...]))
            }
        }
        return nil
    }

    // MARK: Home

    private func applyHome(to plan: inout LaunchPlan, _ context: LaunchContext) throws(Diagnostic) {
        if noHome { plan.options.insert(.noHome) }
        guard let home, home != "host" else { return }
        plan.options.insert(.noHome)
        if home == "none" || noHome { return }
        let own = getenv("HOME").map { String(cString: $0) } ?? "/"
        var mount: LaunchPlan.Mount
        if home == "tmpfs" {
            guard own.hasPrefix("/"), own != "/" else {
                throw refused("--home tmpfs", "HOME names no directory: '\(own)'", "--home SRC:DST")
            }
            mount = LaunchPlan.Mount(source: "mode=0700", destination: own, isTemporary: true)
        } else {
            let parts = Self.splitAtPath(home).map { [$0.name, $0.path] } ?? [home]
            let source = Self.absolute(parts[0], context)
            let destination = parts.count > 1 ? parts[1] : source
            var status = stat()
            guard stat(source, &status) == 0 else {
                throw refused(
                    "--home \(home)", SyscallError("stat", source).sentence, "host, none, tmpfs, DIR or SRC:DST")
            }
            mount = LaunchPlan.Mount(source: source, destination: destination)
            plan.overrides.append(Array("HOME=\(destination)".utf8))
        }
        mount.isUserRequest = true
        plan.mounts.append(mount)
        showDirectory(besides: [own, mount.destination], home: mount.destination, &plan, context)
    }

    /// The caller's directory stays visible unless it lies in a home that is not shown.
    private func showDirectory(
        besides homes: [String], home: String, _ plan: inout LaunchPlan, _ context: LaunchContext
    ) {
        let system = [
            "/usr", "/etc", "/bin", "/sbin", "/lib", "/boot", "/proc", "/sys", "/dev", "/opt", "/run", "/tmp",
        ]
        guard let directory = context.directory, directory != "/",
            !(homes + system).contains(where: { directory == $0 || directory.hasPrefix($0 + "/") })
        else {
            let isTemporary = context.directory.map { $0 == "/tmp" || $0.hasPrefix("/tmp/") } ?? false
            let isShown = isTemporary && !plan.options.contains(.privateTemporary)
            if plan.workingDirectory.isEmpty, !isShown { plan.workingDirectory = Array(home.utf8) }
            return
        }
        plan.mounts.append(LaunchPlan.Mount(source: directory, destination: directory, isOptional: true))
    }

    // MARK: Images and overlays

    private func addData(
        _ name: String, at destination: String, to plan: inout LaunchPlan, _ context: LaunchContext
    ) throws(Diagnostic) {
        let image = try ImageResolver(
            store: ImageStore(context.locations),
            account: { [home = context.locations.home] in .current(home: home) }
        ).resolve(name)
        if !image.plan.imageFile.isEmpty {
            var mount = LaunchPlan.Mount(source: image.plan.imageFile, destination: destination, isReadOnly: true)
            mount.isImageFile = true
            mount.isUserRequest = true
            plan.mounts.append(mount)
            return
        }
        let directories = DataLayers.directories(of: image)
        guard !directories.isEmpty else { throw refused("--data \(name)", "the image has no layers of its own") }
        var mount = LaunchPlan.Mount(
            source: directories.count == 1 ? directories[0] : DataLayers.stack(directories), destination: destination,
            isReadOnly: true)
        mount.isStack = directories.count > 1
        mount.isUserRequest = true
        plan.mounts.append(mount)
    }

    private func addOverlay(_ text: String, to plan: inout LaunchPlan, _ context: LaunchContext) throws(Diagnostic) {
        let isReadOnly = text.hasSuffix(":ro")
        let typed = isReadOnly ? String(text.dropLast(3)) : text.hasSuffix(":rw") ? String(text.dropLast(3)) : text
        let directory = Self.absolute(typed, context)
        var status = stat()
        guard !typed.isEmpty, stat(directory, &status) == 0 else {
            throw refused("--overlay \(text)", SyscallError("stat", directory).sentence, "mkdir \(typed)")
        }
        guard status.st_mode & S_IFMT == S_IFDIR else {
            throw refused("--overlay \(text)", "not a directory", "--data IMAGE:/DST shows an image file")
        }
        guard isReadOnly else {
            guard plan.overlay.isEmpty else { throw refused("--overlay \(text)", "only one overlay can be written to") }
            guard !writableTmpfs else {
                throw refused("--overlay \(text)", "--writable-tmpfs was given too", "--overlay \(typed):ro")
            }
            plan.overlay = Array(directory.utf8)
            return
        }
        let upper = directory + "/upper"
        guard access(upper, X_OK) == 0 else {
            throw refused("--overlay \(text)", "nothing was ever written to it", "--overlay \(typed)")
        }
        plan.layers.insert(upper, at: 0)
        // A layer more can hide mount points and accounts that the image has ready.
        plan.mountPoints = []
        plan.preparedForUID = nil
    }
}
