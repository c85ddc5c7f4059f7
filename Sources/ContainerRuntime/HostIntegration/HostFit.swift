import Glibc
import ImageFormats
import OCIModel

/// Whether an image can run on this host: what its files and its configuration ask for, held against the
/// kernel, the processor, the driver and the C library that are here.
package struct HostFit {
    package enum Level: String, Sendable { case error, warning, info }
    package struct Finding: Sendable {
        package var level: Level
        /// `kernel`, `processor`, `driver`, `glibc`, `architecture`.
        package var rule: String
        package var message: String
    }
    package private(set) var findings: [Finding] = []

    private let tree: MergedTree
    private let platform: Platform
    private let environment: [String: String]
    private let libraries: HostLibraries
    private var root: HostRoot { libraries.root }

    private enum Limit {
        static let files = 200_000
        static let depth = 40
        static let named = 3
    }

    /// - Parameters:
    ///   - environment: the image's own, `NAME=VALUE`.
    ///   - release: uname(2)'s.
    package init(
        _ tree: MergedTree, platform: Platform, environment: [String], on libraries: HostLibraries, release: String
    ) {
        self.tree = tree
        self.platform = platform
        self.libraries = libraries
        self.environment = Dictionary(
            environment.map { entry in
                let name = String(entry.prefix { $0 != "=" })
                return (name, String(entry.dropFirst(name.count + 1)))
            }, uniquingKeysWith: { $1 })
        guard Platform.current.accepts(platform) else {
            note(.error, "architecture", "made for \(platform), this machine is \(Platform.current)")
            return
        }
        lookAtPrograms(release)
        lookAtDriver()
        lookAtLibrary()
    }

    private mutating func note(_ level: Level, _ rule: String, _ message: String) {
        findings.append(Finding(level: level, rule: rule, message: message))
    }

    // MARK: Kernel and processor

    private mutating func lookAtPrograms(_ release: String) {
        var kernels: [(KernelVersion, String)] = []
        var levels: [(Int, String)] = []
        eachProgram { path, notes in
            if let kernel = notes.kernel { kernels.append((kernel, path)) }
            if let level = notes.level { levels.append((level, path)) }
        }
        if let newest = kernels.map(\.0).max(), let here = KernelVersion(release) {
            let files = kernels.filter { $0.0 == newest }.map(\.1)
            if newest > here {
                note(
                    .error, "kernel",
                    "Linux \(newest) is needed by \(Self.some(files)), this host has \(release)")
            } else {
                note(.info, "kernel", "Linux \(newest) is enough, this host has \(release)")
            }
        }
        let cpuinfo = root.text(of: "/proc/cpuinfo") ?? ""
        guard let here = ProcessorLevel.level(cpuinfo: cpuinfo) else { return }
        let declared = platform.variant.flatMap { $0.hasPrefix("v") ? Int($0.dropFirst()) : nil } ?? 1
        let needed = max(levels.map(\.0).max() ?? 1, declared)
        guard needed > here else {
            return note(.info, "processor", "x86-64-v\(needed) is enough, this host has x86-64-v\(here)")
        }
        let files = levels.filter { $0.0 > here }.map(\.1)
        let lacking = ProcessorLevel.missing(needed, cpuinfo: cpuinfo).prefix(4).joined(separator: ", ")
        note(
            .error, "processor",
            "x86-64-v\(needed) is needed by \(files.isEmpty ? "the image" : Self.some(files)), this host has "
                + "x86-64-v\(here) (it lacks \(lacking))")
    }

    private static func some(_ files: [String]) -> String {
        let shown = files.sorted().prefix(Limit.named).joined(separator: ", ")
        return files.count > Limit.named ? "\(shown) and \(files.count - Limit.named) more" : shown
    }

    private func eachProgram(_ body: (String, ElfNotes) -> Void) {
        var pending: [(path: String, depth: Int)] = [("", 0)]
        var left = Limit.files
        while let (directory, depth) = pending.popLast(), left > 0 {
            for name in tree.names(in: directory) {
                let path = directory + "/" + name
                guard let node = tree.find(path, followingLast: false) else { continue }
                left -= 1
                if node.isDirectory, depth < Limit.depth { pending.append((path, depth + 1)) }
                guard node.isFile, node.size > 64, node.isExecutable || name.contains(".so") else { continue }
                if let notes = ElfNotes(path, in: tree), notes.machine == ElfFacts.hostMachine { body(path, notes) }
            }
        }
    }

    // MARK: Driver

    /// NVIDIA's oldest driver for each CUDA ("CUDA Compatibility", minor version compatibility).
    private static let drivers: [Int: KernelVersion] = [
        10: KernelVersion(410, 48, 0), 11: KernelVersion(450, 80, 2), 12: KernelVersion(525, 60, 13),
        13: KernelVersion(580, 65, 6),
    ]

    /// The CUDA an image says it is made for: NVIDIA's images set these two.
    private var cuda: KernelVersion? {
        if let text = environment["CUDA_VERSION"], let version = KernelVersion(text) { return version }
        let requirement = environment["NVIDIA_REQUIRE_CUDA"] ?? ""
        return requirement.split(whereSeparator: { $0 == " " || $0 == "," }).first { $0.hasPrefix("cuda>=") }
            .flatMap { KernelVersion(String($0.dropFirst(6))) }
    }

    private mutating func lookAtDriver() {
        guard let cuda else { return }
        let version = "\(cuda.parts[0]).\(cuda.parts[1])"
        guard let driver = NvidiaDriver(libraries) else {
            return note(.warning, "driver", "made for CUDA \(version), and this host has no NVIDIA driver loaded")
        }
        guard let needed = Self.drivers[cuda.parts[0]], let here = driver.version.flatMap({ KernelVersion($0) }) else {
            return note(.warning, "driver", "made for CUDA \(version); the host's driver does not say what it is")
        }
        if here < needed {
            note(.error, "driver", "CUDA \(version) needs driver \(needed), this host has \(driver.version ?? "")")
        } else {
            note(.info, "driver", "CUDA \(version) runs with driver \(driver.version ?? "")")
        }
        let image = ImageLibraries(tree)
        for library in driver.libraries where NvidiaDriver.isEssential(library.name) {
            if let objection = image.objection(to: library.facts) {
                note(.error, "driver", "\(library.fileName): \(objection)")
            }
        }
    }

    // MARK: C library

    /// The host's own libraries come in with --gpus, --mpi host and fabrics; they were built for its C library.
    private mutating func lookAtLibrary() {
        let image = ImageLibraries(tree)
        let host = libraries.library("libc.so.6")?.facts.definedGlibc
        switch image.cLibrary {
        case .none: note(.info, "glibc", "no C library: static programs alone")
        case .musl:
            note(.warning, "glibc", "musl: libraries of the host (--gpus, --mpi host, fabrics) cannot be loaded")
        case .glibc(let own):
            guard let host else { return note(.info, "glibc", "the image has \(own)") }
            if own < host {
                note(
                    .warning, "glibc",
                    "the image has \(own), this host \(host): libraries of the host (--mpi host, fabrics) may not load")
            } else {
                note(.info, "glibc", "the image has \(own), this host \(host)")
            }
        }
    }
}
