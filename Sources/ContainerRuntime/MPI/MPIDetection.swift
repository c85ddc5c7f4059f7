import ImageFormats
import ImageStore
import LaunchPlan
import LinuxSystem

/// An MPI as a launch must know it: the family decides the wire-up, the major version its dialect.
package enum MPIFlavour: Equatable, Sendable {
    case openMPI(major: Int)
    case mpich
}

/// The MPI a command uses, and where its image keeps the launcher.
package struct DetectedMPI: Equatable, Sendable {
    package var flavour: MPIFlavour
    package var installation: MPIInstallation
}

/// Finds MPIs by looking into an image: libraries by soname, launchers by their usual names.
package enum MPIDetection {
    /// Directories where distributions, and people who build their own, put libraries.
    private static let libraryDirectories = [
        "/usr/lib/x86_64-linux-gnu", "/usr/lib/aarch64-linux-gnu", "/usr/lib64", "/usr/lib", "/usr/local/lib",
        "/usr/local/lib64", "/usr/lib64/openmpi/lib", "/usr/lib64/mpich/lib", "/lib/x86_64-linux-gnu",
        "/lib/aarch64-linux-gnu", "/usr/lib/x86_64-linux-gnu/openmpi/lib", "/usr/lib/aarch64-linux-gnu/openmpi/lib",
    ]
    private static let programDirectories = [
        "/usr/bin", "/usr/local/bin", "/bin", "/usr/lib64/openmpi/bin", "/usr/lib64/mpich/bin",
    ]

    /// All MPIs below `tree`, OpenMPI first.
    package static func installations(in tree: MergedTree) -> [MPIInstallation] {
        var found: [MPIInstallation] = []
        var seen: Set<String> = []
        let prefixes =
            tree.names(in: "/opt").map { "/opt/\($0)" }
            + tree.names(in: "/opt").flatMap { name in tree.names(in: "/opt/\(name)").map { "/opt/\(name)/\($0)" } }
        for directory in libraryDirectories + prefixes.flatMap({ [$0 + "/lib", $0 + "/lib64"] }) {
            guard let real = tree.find(directory), real.isDirectory, seen.insert(real.path).inserted else { continue }
            let names = tree.names(in: directory)
            for family in [MPIInstallation.Family.openMPI, .mpich]
            where !found.contains(where: { $0.family == family && isSystem($0.library) && isSystem(directory) }) {
                if let library = library(family, names) {
                    found.append(installation(family, directory, library, names, tree))
                }
            }
        }
        return found.sorted { ($0.family == .openMPI ? 0 : 1) < ($1.family == .openMPI ? 0 : 1) }
    }

    private static func isSystem(_ path: String) -> Bool { path.hasPrefix("/usr/") || path.hasPrefix("/lib") }

    /// OpenMPI's library has been libmpi.so.40 since 3.0; 1.10 to 2.x counted 12 and 20. MPICH and its
    /// kin (MVAPICH, Intel, Cray by their common ABI) are libmpi.so.12, in Debian libmpich.so.12.
    private static func library(_ family: MPIInstallation.Family, _ names: [String]) -> String? {
        let hasOpenRTE = names.contains { $0.hasPrefix("libopen-rte.so.") || $0.hasPrefix("libopen-pal.so.") }
        switch family {
        case .openMPI:
            return names.first { $0 == "libmpi.so.40" }
                ?? names.first { ($0 == "libmpi.so.20" || $0 == "libmpi.so.12") && hasOpenRTE }
        case .mpich:
            return names.first { $0 == "libmpich.so.12" } ?? names.first { $0 == "libmpi.so.12" && !hasOpenRTE }
        }
    }

    private static func installation(
        _ family: MPIInstallation.Family, _ directory: String, _ library: String, _ names: [String], _ tree: MergedTree
    ) -> MPIInstallation {
        let prefix =
            directory.hasSuffix("/lib") || directory.hasSuffix("/lib64")
            ? String(directory[..<directory.lastIndex(of: "/")!]) : ""
        let places = (prefix.isEmpty || prefix == "/usr" ? [] : [prefix + "/bin"]) + programDirectories
        func program(_ candidates: [String]) -> String? {
            for candidate in candidates {
                for place in places {
                    let path = "\(place)/\(candidate)"
                    if let node = tree.find(path), node.isExecutable { return path }
                }
            }
            return nil
        }
        switch family {
        case .openMPI:
            let real = tree.find("\(directory)/\(library)")?.path.split(separator: "/").last.map(String.init) ?? library
            return MPIInstallation(
                family: .openMPI, major: openMPIMajor(real, names), library: "\(directory)/\(library)",
                sonames: [library] + names.filter { $0.hasPrefix("libmpi_") && $0.hasSuffix(".so.40") },
                launcher: program(["mpirun.openmpi", "orterun", "prterun"]) ?? program(["mpirun", "mpiexec"]),
                daemon: program(["orted", "prted"]))
        case .mpich:
            return MPIInstallation(
                family: .mpich, major: 0, library: "\(directory)/\(library)",
                sonames: names.filter {
                    $0 == library || $0 == "libmpi.so.12" || ($0.hasPrefix("libmpich") && $0.hasSuffix(".so.12"))
                },
                launcher: program(["mpiexec.hydra", "mpirun.mpich", "mpiexec.mpich"])
                    ?? program(["mpiexec", "mpirun"]),
                daemon: program(["hydra_pmi_proxy"]))
        }
    }

    /// From the file behind the soname: libmpi.so.40.10 is 3.1, 40.20 and 40.30 are 4.0 and 4.1, 40.40 is 5.0.
    private static func openMPIMajor(_ file: String, _ names: [String]) -> Int {
        let numbers = file.split(separator: ".").compactMap { Int($0) }
        if numbers.first == 40, numbers.count > 1 { return numbers[1] < 20 ? 3 : numbers[1] < 40 ? 4 : 5 }
        if numbers.first == 20 { return 2 }
        if numbers.first == 12 { return 1 }
        return names.contains { $0.hasPrefix("libopen-rte.so.") } ? 4 : 5
    }

    /// Where `image` has the library `name`: in the directory of `library`, else where libraries are.
    package static func library(_ name: String, beside library: String, image: StoredImage) throws(SyscallError)
        -> String?
    {
        let tree = try image.tree()
        let own = library.lastIndex(of: "/").map { String(library[..<$0]) } ?? ""
        return ([own] + libraryDirectories).map { "\($0)/\(name)" }.first { tree.find($0)?.isFile == true }
    }

    // MARK: A command

    private enum Limit {
        static let elfBytes = 64 << 20
        static let libraries = 200
    }

    /// The MPI that `command` uses: by what the program and its libraries are linked with, else the image's
    /// only MPI. Nil when the image has none, or several and the command does not tell.
    ///
    /// - Parameters:
    ///   - command: a path in the container, or a name looked up in the image's PATH.
    ///   - files: what the container shows; nil: what the image has.
    package static func detect(
        image: StoredImage, command: String, files: ContainerFiles? = nil
    ) throws(SyscallError) -> DetectedMPI? {
        let files = if let files { files } else { ContainerFiles(try image.tree()) }
        return detect(installations: image.record.mpi, in: files, command: command, path: searchPath(image))
    }

    package static func detect(
        installations: [MPIInstallation], in files: ContainerFiles, command: String, path: [String]
    ) -> DetectedMPI? {
        guard !installations.isEmpty else { return nil }
        if let program = program(command, files, path) {
            // The launchers themselves link with neither; their own names tell.
            let real = files.inImage(program)
            if let match = installations.first(where: { installation in
                [installation.launcher, installation.daemon].contains {
                    $0.flatMap(files.inImage) == real && real != nil
                }
            }) {
                return detected(match)
            }
            if let match = linked(program, installations, files) { return detected(match) }
        }
        return installations.count == 1 ? detected(installations[0]) : nil
    }

    /// The MPI that `command` itself is linked with; nil when it is with none, whatever the image has.
    package static func linked(
        image: StoredImage, command: String, files: ContainerFiles
    ) throws(SyscallError) -> DetectedMPI? {
        guard let program = program(command, files, searchPath(image)) else { return nil }
        return linked(program, image.record.mpi, files).map(detected)
    }

    private static func program(_ command: String, _ files: ContainerFiles, _ path: [String]) -> String? {
        (command.contains("/") ? [command] : path.map { "\($0)/\(command)" }).first { files.isFile($0) }
    }

    private static func detected(_ installation: MPIInstallation) -> DetectedMPI {
        DetectedMPI(
            flavour: installation.family == .openMPI ? .openMPI(major: installation.major) : .mpich,
            installation: installation)
    }

    private static func searchPath(_ image: StoredImage) -> [String] {
        let variable = image.plan.environment.map { String(decoding: $0, as: UTF8.self) }.last { $0.hasPrefix("PATH=") }
        return
            (variable.map { String($0.dropFirst(5)) } ?? "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
            .split(separator: ":").map(String.init)
    }

    /// Breadth first through the program's libraries, since many programs reach MPI through one of their own.
    private static func linked(
        _ program: String, _ installations: [MPIInstallation], _ files: ContainerFiles
    ) -> MPIInstallation? {
        var pending = [program]
        var seen: Set<String> = []
        while !pending.isEmpty, seen.count < Limit.libraries {
            let file = pending.removeFirst()
            guard seen.insert(file).inserted, let bytes = files.contents(of: file, limit: Limit.elfBytes),
                let dynamic = DynamicSection(bytes)
            else { continue }
            for name in dynamic.needed {
                let soname = name.split(separator: "/").last.map(String.init) ?? name
                let matches = installations.filter { $0.sonames.contains(soname) }
                if matches.count == 1 { return matches[0] }
            }
            let origin = file.lastIndex(of: "/").map { String(file[..<$0]) } ?? ""
            let own = dynamic.searchPaths.map {
                var path = $0
                for word in ["$ORIGIN", "${ORIGIN}"] where path.hasPrefix(word) {
                    path = origin + path.dropFirst(word.count)
                }
                return path
            }
            for name in dynamic.needed where !name.hasPrefix("libc.so") && !name.hasPrefix("ld-linux") {
                if let place = (own + libraryDirectories).first(where: { files.isFile("\($0)/\(name)") }) {
                    pending.append("\(place)/\(name)")
                }
            }
        }
        return nil
    }
}
