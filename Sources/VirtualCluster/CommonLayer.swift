import Glibc
import LinuxSystem

/// The layer above the image that all nodes share: accounts, names and
/// the batch system's configuration, written once per cluster instead of once per node.
struct CommonLayer {
    let files: [Supervisor.CommonFile]

    init(_ specification: ClusterSpecification) throws(SyscallError) {
        let image = ImageLayers(specification)
        let account = specification.account
        var files: [Supervisor.CommonFile] = []
        func text(_ path: String, _ content: String, mode: mode_t = 0o644) {
            files.append(.init(path: path, mode: mode, content: .bytes(Array(content.utf8))))
        }
        text("/etc/hosts", NodeFiles.hosts(specification.nodes))
        text("/etc/passwd", NodeFiles.passwd(image: image.text("etc/passwd") ?? "", account: account))
        text("/etc/group", NodeFiles.group(image: image.text("etc/group") ?? "", account: account))
        switch specification.scheduler {
        case .slurm: files += try Self.slurm(specification)
        case .gridengine:
            let configuration = GridEngineConfiguration(specification)
            for path in configuration.directories {
                files.append(.init(path: path, mode: 0o755, content: .directory))
            }
            for file in configuration.files { text(file.path, file.text) }
            text("/etc/services", GridEngineConfiguration.services(image: image.text("etc/services") ?? ""))
        case .htcondor:
            for path in HTCondorConfiguration.directories {
                files.append(.init(path: path, mode: 0o755, content: .directory))
            }
            text(HTCondorConfiguration.path, HTCondorConfiguration(specification).text)
            let key = try Self.randomKey().map { String($0 % 16, radix: 16) }.joined()
            text(HTCondorConfiguration.passwordPath, key, mode: 0o600)
        }
        if !image.contains("usr/local/bin/trireme") {
            files.append(
                .init(
                    path: "/usr/local/bin/trireme", mode: 0, content: .link(specification.programDirectory + "/trireme")
                ))
        }
        // slurmstepd opens this name of the development package; without it:
        // "mpi/pmix: can not load PMIx library".
        for architecture in ["x86_64", "aarch64"] {
            let directory = "usr/lib/\(architecture)-linux-gnu/pmix2/lib"
            if image.contains(directory + "/libpmix.so.2") && !image.contains(directory + "/libpmix.so") {
                files.append(.init(path: "/\(directory)/libpmix.so", mode: 0, content: .link("libpmix.so.2")))
            }
        }
        self.files = files
    }

    private static func slurm(_ specification: ClusterSpecification) throws(SyscallError) -> [Supervisor.CommonFile] {
        func text(_ path: String, _ content: String) -> Supervisor.CommonFile {
            .init(path: path, mode: 0o644, content: .bytes(Array(content.utf8)))
        }
        var files = [
            text("/etc/slurm/slurm.conf", SlurmConfiguration(specification).text),
            text("/etc/slurm/cgroup.conf", SlurmConfiguration.cgroupText),
            .init(path: "/etc/munge", mode: 0o700, content: .directory),
            .init(path: "/etc/munge/munge.key", mode: 0o400, content: .bytes(try randomKey())),
        ]
        for path in ["/var/lib/munge", "/var/log/munge"] {
            files.append(.init(path: path, mode: 0o700, content: .directory))
        }
        for path in ["/var/lib/slurm", "/var/spool/slurmd", "/var/log/slurm"] {
            files.append(.init(path: path, mode: 0o755, content: .directory))
        }
        return files
    }

    /// A key of its own per cluster: a credential of one means nothing in another.
    private static func randomKey() throws(SyscallError) -> [UInt8] {
        let source = try OwnedDescriptor.open("/dev/urandom", O_RDONLY)
        var key = [UInt8](repeating: 0, count: 128)
        let count = key.count
        let n = try checked("read", "/dev/urandom") { read(source.raw, &key, count) }
        if n != count { throw SyscallError("read", "/dev/urandom", errno: EIO) }
        return key
    }
}

/// The unpacked layers as one tree, looked at from outside.
package struct ImageLayers {
    private let roots: [String]

    package init(_ specification: ClusterSpecification) {
        roots = specification.layers.map { specification.layersDirectory + "/" + $0 }
    }

    /// Whether the topmost layer that says anything about `path` has it. A whiteout
    /// is a character device (overlayfs.rst).
    package func contains(_ path: String) -> Bool {
        for root in roots {
            var status = stat()
            if lstat(root + "/" + path, &status) == 0 { return status.st_mode & S_IFMT != S_IFCHR }
        }
        return false
    }

    func text(_ path: String) -> String? {
        for root in roots {
            if let file = try? OwnedDescriptor.open(root + "/" + path, O_RDONLY | O_NOFOLLOW),
                let bytes = try? file.readAll(limit: 1 << 20)
            {
                return String(decoding: bytes, as: UTF8.self)
            }
        }
        return nil
    }
}
