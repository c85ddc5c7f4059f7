import Diagnostics
import FoundationEssentials
import Glibc
import ImageFormats
import ImageStore
import LaunchPlan
import LinuxSystem
import OCIModel

/// An image that is one file: squashfs, or a SIF file with one inside.
///
/// What `trireme image convert` writes carries its configuration and its plan in `/.trireme`; of other
/// tools' images the plan is made here, from what the file shows.
package enum SingleFileImage {
    /// Where an image keeps what is known of it.
    package static let directory = ".trireme"
    package static let configurationPath = directory + "/config.json"
    package static let planPath = directory + "/plan"
    package static let mpiPath = directory + "/mpi.json"

    /// The image at path `name`; nil when `name` is none, or no file that begins like one.
    ///
    /// A path begins with `/`, `./` or `../`, or ends with `.sqfs`, `.squashfs`, `.sqsh` or `.sif`.
    package static func named(
        _ name: String, account: () -> PreparedRoot.Account, layout: StoreLayout
    ) throws(Diagnostic) -> StoredImage? {
        let suffixes = [".sqfs", ".squashfs", ".sqsh", ".sif"]
        let isPath = name.hasPrefix("/") || name.hasPrefix("./") || name.hasPrefix("../")
        guard isPath || suffixes.contains(where: { name.hasSuffix($0) }) else { return nil }
        var status = stat()
        guard stat(name, &status) == 0, status.isFile else { return nil }
        guard let reader = try open(name) else { return nil }
        return try image(reader, at: name, account: account(), layout: layout)
    }

    /// A reader of the file at `path`, whose descriptor stays open as long as the process; nil when it does
    /// not begin like an image.
    package static func open(_ path: String) throws(Diagnostic) -> SquashReader? {
        let file: Int32
        do throws(SyscallError) { file = try OwnedDescriptor.open(path, O_RDONLY).release() } catch {
            throw Diagnostic(DiagnosticCode("archive-unreadable"), path, reasons: [error.sentence])
        }
        var start = [UInt8](repeating: 0, count: ImageFile.magicBytes)
        let n = start.withUnsafeMutableBytes { pread(file, $0.baseAddress, $0.count, 0) }
        guard ImageFile.isImage(Array(start.prefix(max(0, n)))) else {
            close(file)
            return nil
        }
        do throws(ArchiveFault) {
            let payload = try ImageFile.payload(file)
            return try SquashReader(file, offset: payload.offset, length: payload.length)
        } catch { throw refused(error, path) }
    }

    /// How a launch here comes to the files of the image at `path`, in a few words. What it asks of the
    /// kernel is not tried: where the kernel's own mount fails, FUSE serves.
    package static func serving(_ path: String) -> String {
        let wish = getenv("TRIREME_SINGLE_FILE").map { String(cString: $0) }
        if wish == "unpack" || access("/dev/fuse", R_OK | W_OK) != 0 { return "unpacked once on this node" }
        let file = Glibc.open(path, O_RDONLY | O_CLOEXEC)
        guard file >= 0 else { return "served by FUSE" }
        defer { close(file) }
        return wish != "fuse" && ImageFile.isRootsOwn(file) ? "mounted by the kernel, else by FUSE" : "served by FUSE"
    }

    private static func image(
        _ reader: SquashReader, at name: String, account: PreparedRoot.Account, layout: StoreLayout
    ) throws(Diagnostic) -> StoredImage {
        guard let real = realpath(name, nil) else {
            throw Diagnostic(DiagnosticCode("archive-unreadable"), name, reasons: [SyscallError("realpath").sentence])
        }
        defer { free(real) }
        let tree = MergedTree(reader)
        let configuration = tree.contents(of: configurationPath) ?? []
        var plan = storedPlan(tree) ?? foreignPlan(tree)
        let mpi = tree.contents(of: mpiPath).flatMap {
            try? JSONDecoder().decode([MPIInstallation].self, from: Data($0))
        }
        plan.layers = ["."]
        plan.imageFile = String(cString: real)
        plan.imageName = name
        ApptainerImage.name(name, real: String(cString: real), in: &plan)
        addAccount(account, tree, &plan)
        let digest = Digest(sha256: configuration)
        let record = ImageRecord(
            manifest: Descriptor(mediaType: "application/vnd.squashfs", digest: digest, size: reader.bytesUsed),
            configuration: digest, platform: .current, created: nil, loaded: "", layers: [],
            mpi: mpi ?? MPIDetection.installations(in: tree), skippedDevices: 0, droppedAttributes: 0)
        return StoredImage(
            name: name, record: record, plan: plan, planPath: "", lowerDirectories: [], layout: layout, file: reader)
    }

    private static func storedPlan(_ tree: MergedTree) -> LaunchPlan? {
        guard let bytes = tree.contents(of: planPath, limit: LaunchPlanLimit.totalBytes),
            let stored = try? LaunchPlan(decoding: bytes)
        else { return nil }
        var plan = describing(stored)
        plan.mountPoints = readyMountPoints(tree)
        return plan
    }

    /// The file may be anybody's: of its plan only what describes the image is believed. A list of what is
    /// taken, not of what is left out: whatever a plan will learn to say is not believed either.
    package static func describing(_ stored: LaunchPlan) -> LaunchPlan {
        var plan = LaunchPlan()
        plan.environment = stored.environment
        plan.entrypoint = stored.entrypoint
        plan.command = stored.command
        plan.workingDirectory = stored.workingDirectory
        plan.user = stored.user
        plan.userID = stored.userID
        plan.groupID = stored.groupID
        plan.stopSignal = stored.stopSignal
        plan.options = stored.options.intersection([.lacksTimeZones, .lacksLocales, .environmentScripts])
        return plan
    }

    /// Of an image that other tools made: its configuration if it has one where ours lies, else a shell's.
    private static func foreignPlan(_ tree: MergedTree) -> LaunchPlan {
        let bytes = tree.contents(of: configurationPath) ?? Array("{}".utf8)
        let configuration = try? JSONDecoder().decode(ImageConfiguration.self, from: Data(bytes))
        var plan = configuration.map { PlanCompiler.plan($0, in: tree) } ?? LaunchPlan()
        if plan.environment.isEmpty {
            plan.environment = [Array("PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin".utf8)]
        }
        if plan.command.isEmpty, plan.entrypoint.isEmpty {
            plan.command = [Array("/bin/sh".utf8)]
        }
        plan.mountPoints = readyMountPoints(tree)
        return plan
    }

    /// Which of the usual mount points the image has, reached through no symbolic link at their end.
    package static func readyMountPoints(_ tree: MergedTree) -> [String] {
        PreparedRoot.directories.filter { tree.find($0)?.isDirectory == true }
            + PreparedRoot.files.filter { tree.find($0, followingLast: false)?.isFile == true }
    }

    /// The image's accounts and the caller's: bound over the image's own files, which stay as they are.
    private static func addAccount(_ account: PreparedRoot.Account, _ tree: MergedTree, _ plan: inout LaunchPlan) {
        let lines = [
            (
                "/etc/passwd", String(account.userID),
                "\(account.name):x:\(account.userID):\(account.groupID)::\(account.home):\(account.shell)"
            ),
            ("/etc/group", String(account.groupID), "\(account.groupName):x:\(account.groupID):"),
        ]
        var files: [LaunchPlan.File] = []
        for (path, key, line) in lines {
            let others = path == "/etc/group" ? [PreparedRoot.unmappedGroup] : []
            guard tree.find(path, followingLast: false)?.isFile == true,
                var bytes = tree.contents(of: path, limit: 4 << 20)
            else { return }
            let missing = ([(key: key, line: line)] + others).filter { !PreparedRoot.lists($0.key, bytes) }
            if missing.isEmpty { continue }
            if let last = bytes.last, last != 10 { bytes.append(10) }
            for line in missing { bytes += Array(line.line.utf8) + [10] }
            files.append(LaunchPlan.File(destination: path, content: bytes))
        }
        plan.files = files
        plan.preparedForUID = account.userID
    }

    /// A fault of the file in the user's words.
    package static func refused(_ fault: ArchiveFault, _ name: String) -> Diagnostic {
        var reasons = [fault.entry.isEmpty ? nil : "entry '\(fault.entry)'", fault.reason].compactMap { $0 }
        if fault.kind == .hostile { reasons.insert("refused", at: 0) }
        let code: DiagnosticCode =
            switch fault.kind {
            case .unsupported: DiagnosticCode("archive-unsupported")
            case .limit: DiagnosticCode("archive-limit")
            case .system: DiagnosticCode("image-file-unusable")
            case .corrupt, .hostile: DiagnosticCode("archive-invalid")
            }
        return Diagnostic(code, name, reasons: reasons)
    }
}
