import Diagnostics
import Glibc
import ImageFormats
import ImageStore
import LaunchPlan
import LinuxSystem
import OCIModel

/// An image named by where it lies: a root directory, an OCI layout, or an archive.
///
/// A directory is used as it is. Layouts and archives go to the store, once: what a file was is
/// remembered by its inode, size and times, so that the next run does not read it again.
struct PathImage {
    let store: ImageStore
    let account: PreparedRoot.Account
    /// Told what is done that the user did not ask for by name.
    let announce: (String) -> Void

    /// Schemes by which podman, skopeo and apptainer say what a path is; only the path counts here.
    private static let schemes = ["oci-archive:", "docker-archive:", "oci:", "dir:"]

    /// The path in `name`, nil for what is not one.
    static func path(in name: String) -> String? {
        for scheme in schemes where name.hasPrefix(scheme) {
            let rest = String(name.dropFirst(scheme.count))
            return rest.isEmpty ? nil : rest
        }
        let isPath = name.hasPrefix("/") || name.hasPrefix("./") || name.hasPrefix("../") || name == "." || name == ".."
        return isPath ? name : nil
    }

    /// - Throws: `image-path` for what is none; what a load throws.
    func resolve(_ path: String) throws(Diagnostic) -> StoredImage {
        var status = stat()
        guard let real = realpath(path, nil), stat(path, &status) == 0 else {
            throw refused(path, SyscallError("stat", path).sentence)
        }
        defer { free(real) }
        let absolute = String(cString: real)
        if status.st_mode & S_IFMT == S_IFREG {
            var first = [UInt8](repeating: 0, count: 4)
            do throws(SyscallError) {
                let file = try OwnedDescriptor.open(absolute, O_RDONLY)
                let raw = file.raw
                let count = try checked("read", path) { read(raw, &first, 4) }
                first.removeLast(4 - count)
            } catch { throw refused(path, error.sentence) }
            if first == Array("hsqs".utf8) { throw refused(path, "a squashfs file that this command cannot run") }
            return try loaded(path, absolute, status) { () throws(Diagnostic) in
                try self.load(absolute, subject: path)
            }
        }
        guard status.st_mode & S_IFMT == S_IFDIR else { throw refused(path, "neither a file nor a directory") }
        if absolute == "/" {
            throw refused(
                path, "the root of this host itself, which no container can be made of while it is in use",
                "run the command without trireme, or name an image: trireme image ls")
        }
        if Files.exists(absolute + "/oci-layout"), Files.exists(absolute + "/index.json") {
            // Blobs never change under their names; what the layout offers is in its index.
            var index = stat()
            guard stat(absolute + "/index.json", &index) == 0 else { throw refused(path, "no index.json") }
            return try loaded(path, absolute, index) { () throws(Diagnostic) in
                try self.loadLayout(absolute, subject: path)
            }
        }
        return try directory(path, absolute)
    }

    private func refused(_ path: String, _ reason: String, _ remedies: String...) -> Diagnostic {
        let known = [
            "an image is a root directory, an OCI layout, a docker or OCI archive, or a name: trireme image ls"
        ]
        return Diagnostic(
            DiagnosticCode("image-path"), path, reasons: [reason], remedies: remedies.isEmpty ? known : remedies)
    }

    // MARK: A root file system in a directory

    private func directory(_ path: String, _ absolute: String) throws(Diagnostic) -> StoredImage {
        do throws(SyscallError) {
            let tree = try MergedTree([absolute])
            guard
                ["bin", "usr", "etc", "lib"].contains(where: { tree.find($0) != nil }) || !tree.names(in: "/").isEmpty
            else { throw refusal(path) }
            var plan = PlanCompiler.plan(ImageConfiguration(), in: tree)
            plan.mountPoints = PreparedRoot.mountPoints(in: tree)
            ApptainerImage.name(absolute, real: absolute, in: &plan)
            return .directory(absolute, plan: plan, mpi: MPIDetection.installations(in: tree))
        } catch {
            throw refused(path, error.sentence)
        }
    }

    private func refusal(_ path: String) -> SyscallError { SyscallError("an empty directory", path, errno: ENOENT) }

    // MARK: Archives and layouts

    /// What was loaded from a file of this identity before, else what `load` brings.
    private func loaded(
        _ path: String, _ absolute: String, _ status: stat, _ load: () throws(Diagnostic) -> [LoadedImage]
    ) throws(Diagnostic) -> StoredImage {
        let times = [status.st_mtim, status.st_ctim].map { "\($0.tv_sec).\($0.tv_nsec)" }.joined(separator: "-")
        let note = "\(store.layout.root)/archives/\(status.st_dev)-\(status.st_ino)-\(status.st_size)-\(times)"
        if let digest = try? Files.read(note, limit: 128),
            let image = try store.image(named: String(decoding: digest, as: UTF8.self))
        {
            return image
        }
        let images = try load()
        guard let first = images.first else { throw refused(path, "holds no image") }
        let digests = Set(images.map(\.image.record.manifest.digest))
        guard digests.count == 1 else {
            let names = images.map(\.image.name)
            throw refused(
                path, "holds several images: \(names.joined(separator: ", "))", "trireme run \(first.image.name)")
        }
        announce("\(path) is in the store as \(first.image.name)")
        // Only a saving: without it the next run reads the file again.
        try? Files.makeDirectories(store.layout.root + "/archives")
        try? Files.write(Array("\(first.image.record.manifest.digest)".utf8), to: note)
        return first.image
    }

    private func load(_ absolute: String, subject: String) throws(Diagnostic) -> [LoadedImage] {
        let archive: OwnedDescriptor
        do throws(SyscallError) { archive = try OwnedDescriptor.open(absolute, O_RDONLY) } catch {
            throw refused(subject, error.sentence)
        }
        return try store.load(archive: archive, subject: subject, preparer: PlanCompiler(account: account))
    }

    /// A layout is an archive that was never packed: tar(1) packs it into a pipe.
    private func loadLayout(_ absolute: String, subject: String) throws(Diagnostic) -> [LoadedImage] {
        let packer: HostCommand
        do throws(SyscallError) {
            packer = try HostCommand(["tar", "-C", absolute, "-cf", "-", "oci-layout", "index.json", "blobs"])
        } catch { throw refused(subject, error.sentence, "skopeo copy oci:\(subject) oci-archive:FILE") }
        let images = try store.load(
            archive: packer.output, subject: subject, preparer: PlanCompiler(account: account))
        _ = packer.finish()
        return images
    }
}
