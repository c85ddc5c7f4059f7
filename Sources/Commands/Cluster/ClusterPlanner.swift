import ContainerRuntime
import Diagnostics
import Glibc
import ImageStore
import LaunchPlan
import LinuxSystem
import OCIModel
import Quantities
import SiteConfiguration
import VirtualCluster

/// Turns what was typed after `cluster create` into a `ClusterSpecification`:
/// every check that needs no cluster happens here.
struct ClusterPlanner {
    var locations: Locations

    func specification(
        name: String, scheduler: ClusterScheduler, nodes: Int, cpus: Int?, memory: String?, image: String,
        rootfs: String?, binds: [String]
    ) throws(Diagnostic) -> ClusterSpecification {
        try checkName(name)
        guard (1...ClusterSpecification.maximumNodeCount).contains(nodes) else {
            throw invalid("--nodes \(nodes)", "must be between 1 and \(ClusterSpecification.maximumNodeCount)")
        }
        let cores = cpus ?? Int(sysconf(Int32(_SC_NPROCESSORS_ONLN)))
        guard (1...1024).contains(cores) else { throw invalid("--cpus \(cores)", "must be between 1 and 1024") }
        let (directory, layers) = if let rootfs { try rootLayers(rootfs) } else { try imageLayers(image) }
        let mebibytes = if let memory { try Self.mebibytes(memory) } else { max(64, Self.hostMemoryMiB / nodes) }
        let programs = try programDirectory()
        var specification = ClusterSpecification(
            name: name, nodeCount: nodes, cpusPerNode: cores,
            memoryPerNodeMiB: mebibytes,
            image: rootfs ?? image, layersDirectory: directory, layers: layers,
            binds: try allBinds(binds, programs: programs), programDirectory: programs, account: account())
        specification.scheduler = scheduler
        try checkImage(specification)
        return specification
    }

    private func invalid(_ subject: String, _ reason: String) -> Diagnostic {
        Diagnostic(.clusterInvalid, subject, reasons: [reason], remedies: ["trireme cluster create --help"])
    }

    /// The name becomes a directory, part of slurm.conf and of commands to type.
    private func checkName(_ name: String) throws(Diagnostic) {
        let isPlain = name.utf8.allSatisfy {
            $0 == UInt8(ascii: "-") || $0 == UInt8(ascii: "_") || (0x30...0x39).contains($0)
                || (0x61...0x7A).contains($0)
        }
        let startsWell = name.utf8.first.map { $0 != UInt8(ascii: "-") && $0 != UInt8(ascii: "_") } ?? false
        if !isPlain || !startsWell || name.utf8.count > 40 {
            throw invalid(
                "cluster name '\(name)'", "must be 1 to 40 of a-z, 0-9, '-' and '_', starting with a letter or digit")
        }
    }

    /// `2G`, `512M`, `2000` (MiB, as Slurm's RealMemory).
    static func mebibytes(_ text: String) throws(Diagnostic) -> Int {
        guard let bytes = TypedSize.bytes(text, bareUnit: 1 << 20), bytes >= 1 << 20, bytes <= 1 << 50 else {
            throw Diagnostic(
                .clusterInvalid, "--mem \(text)", reasons: ["is not an amount of memory"],
                remedies: ["write it as 2G or 512M"])
        }
        return Int(bytes >> 20)
    }

    private static var hostMemoryMiB: Int {
        Int(sysconf(Int32(_SC_PHYS_PAGES))) / 1024 * Int(sysconf(Int32(_SC_PAGESIZE))) / 1024
    }

    // MARK: Image

    private func rootLayers(_ path: String) throws(Diagnostic) -> (String, [String]) {
        guard let absolute = Self.absolute(path) else {
            throw Diagnostic(.nodeImageUnfit, "root file system '\(path)'", reasons: ["no such directory"])
        }
        return (absolute, ["."])
    }

    /// The layers of the image's plan in the store, read without the rest of its record:
    /// the supervisor and every node's init inherit what is touched here.
    private func imageLayers(_ image: String) throws(Diagnostic) -> (String, [String]) {
        for candidate in [image, "localhost/" + image].compactMap({ ImageReference($0) }) {
            let path = "\(locations.store)/plans/\(candidate.fileName)"
            guard let file = try? OwnedDescriptor.open(path, O_RDONLY) else { continue }
            do {
                let plan = try LaunchPlan(decoding: try file.readAll(limit: LaunchPlanLimit.totalBytes))
                return (locations.store, plan.layers)
            } catch {
                throw Diagnostic(
                    .nodeImageUnfit, "image '\(image)'", reasons: ["its plan in the store is damaged"],
                    remedies: ["load it again: trireme image load -i FILE"])
            }
        }
        // A digest, or no image at all: then the resolver says what is near.
        do throws(Diagnostic) {
            let found = try ImageResolver(store: ImageStore(locations)).resolve(image)
            return (locations.store, found.plan.layers)
        } catch {
            var error = error
            if error.code == DiagnosticCode("image-not-found") {
                error.remedies.append(
                    "Recipes/node, node-gridengine and node-htcondor make the images of clusters' nodes")
            }
            throw error
        }
    }

    private func checkImage(_ specification: ClusterSpecification) throws(Diagnostic) {
        let layers = ImageLayers(specification)
        let scheduler = specification.scheduler
        for program in scheduler.programs where !layers.contains(String(program.dropFirst())) {
            throw Diagnostic(
                .nodeImageUnfit, "image '\(specification.image)'",
                reasons: ["is no node image", "it has no \(program)"],
                remedies: [scheduler.imageAdvice])
        }
    }

    // MARK: Binds

    /// Home, the store and our programs at their own paths, then what was asked for.
    /// A directory below one that is bound already is visible without a bind of its own.
    private func allBinds(_ typed: [String], programs: String) throws(Diagnostic) -> [ClusterSpecification.Bind] {
        var binds: [ClusterSpecification.Bind] = []
        for path in [locations.home, locations.store, programs] {
            guard path != "/", let absolute = Self.absolute(path) else { continue }
            let isVisible = binds.contains { path == $0.destination || path.hasPrefix($0.destination + "/") }
            if !isVisible { binds.append(.init(source: absolute, destination: path)) }
        }
        for text in typed {
            let parts = text.split(separator: ":", omittingEmptySubsequences: false).map(String.init)
            guard parts.count <= 2, let source = Self.absolute(parts[0]) else {
                throw Diagnostic(
                    .clusterInvalid, "--bind \(text)",
                    reasons: [parts.count > 2 ? "is not SRC[:DST]" : "no such directory: \(parts[0])"])
            }
            let destination = parts.count == 2 ? parts[1] : source
            guard destination.hasPrefix("/"), destination != "/" else {
                throw invalid("--bind \(text)", "the place in the nodes must be an absolute path below /")
            }
            binds.append(.init(source: source, destination: destination))
        }
        return binds
    }

    /// The real path of an existing directory.
    private static func absolute(_ path: String) -> String? {
        guard let resolved = realpath(path, nil) else { return nil }
        defer { free(resolved) }
        var status = stat()
        guard stat(resolved, &status) == 0, status.st_mode & S_IFMT == S_IFDIR else { return nil }
        return String(cString: resolved)
    }

    private func programDirectory() throws(Diagnostic) -> String {
        do { return try Locations.programDirectory() } catch {
            throw Diagnostic(
                .clusterStartFailed, "cluster", reasons: ["cannot find trireme's programs", error.sentence])
        }
    }

    // MARK: Account

    /// The caller's own account; root appears as uid 1000 `user`, because Slurm's
    /// daemons and many applications treat 0 as special.
    private func account() -> ClusterSpecification.Account {
        if geteuid() == 0 {
            return .init(user: "user", uid: 1000, group: "user", gid: 1000, home: locations.home)
        }
        let user = getpwuid(geteuid()).map { String(cString: $0.pointee.pw_name) } ?? "user"
        let group = getgrgid(getegid()).map { String(cString: $0.pointee.gr_name) } ?? user
        return .init(
            user: user, uid: geteuid(), group: group, gid: getegid() == 0 ? 1000 : getegid(), home: locations.home)
    }
}
