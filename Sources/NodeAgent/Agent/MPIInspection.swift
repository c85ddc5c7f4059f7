import Glibc
import LinuxSystem

/// Looks into the container the agent stands in: which MPI its launcher and its command belong to.
enum MPIInspection {
    static func facts(command: [[UInt8]], environment: [[UInt8]]) -> NodeFacts {
        let program = command.first.flatMap { path(of: $0, environment) }
        let commandFlavor = program.map { ELFNeeds.flavor(of: $0) } ?? .none
        let (flavor, launcher) = launcher(preferring: commandFlavor, environment)
        return NodeFacts(imageDigest: "", flavor: flavor, launcher: launcher, commandFlavor: commandFlavor)
    }

    private static func path(of program: [UInt8], _ environment: [[UInt8]]) -> String? {
        Spawn.candidates(for: program, environment: environment)
            .map { String(decoding: $0, as: UTF8.self) }.first { access($0, X_OK) == 0 }
    }

    /// The image's launcher: one of the wanted MPI if there is, else the one `mpirun` or `mpiexec` means.
    ///
    /// Names are what the makers install (orterun, mpiexec.hydra) or what Debian's alternatives call them.
    private static func launcher(preferring wanted: MPIFlavor, _ environment: [[UInt8]]) -> (MPIFlavor, String) {
        let names: [(String, MPIFlavor)] = [
            ("mpirun.openmpi", .openMPI), ("orterun", .openMPI), ("prterun", .openMPI), ("mpiexec.hydra", .mpich),
            ("mpiexec.mpich", .mpich),
        ]
        if wanted != .none {
            for (name, flavor) in names where flavor == wanted {
                if let path = path(of: Array(name.utf8), environment) { return (flavor, path) }
            }
        }
        for name in ["mpirun", "mpiexec"] {
            guard let path = path(of: Array(name.utf8), environment), let flavor = flavor(ofLauncher: path) else {
                continue
            }
            if wanted == .none || wanted == flavor { return (flavor, path) }
        }
        if wanted == .none {
            for (name, flavor) in names {
                if let path = path(of: Array(name.utf8), environment) { return (flavor, path) }
            }
        }
        return (.none, "")
    }

    /// What the program behind the links of `path` is.
    private static func flavor(ofLauncher path: String) -> MPIFlavor? {
        var buffer = [CChar](repeating: 0, count: Int(PATH_MAX) + 1)
        guard realpath(path, &buffer) != nil else { return nil }
        let real = String(decoding: buffer.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
        let name = real[(real.lastIndex(of: "/").map { real.index(after: $0) } ?? real.startIndex)...]
        if name.contains("hydra") || name.contains("mpich") { return .mpich }
        if name.contains("orte") || name.contains("prte") || name.contains("openmpi") { return .openMPI }
        return nil
    }
}

/// The shared libraries an ELF file names (elf(5), DT_NEEDED), as far as MPI is concerned.
enum ELFNeeds {
    static func flavor(of path: String) -> MPIFlavor {
        guard let file = try? OwnedDescriptor.open(path, O_RDONLY) else { return .none }
        for library in needed(file.raw) {
            // Open MPI's is libmpi.so.40 and above; MPICH and its kin (ABI initiative) use libmpi.so.12.
            if library.hasPrefix("libmpich.so") || library == "libmpi.so.12" { return .mpich }
            if library.hasPrefix("libmpi.so.") || library.hasPrefix("libmpi_") || library.hasPrefix("libopen-rte.so") {
                return .openMPI
            }
        }
        return .none
    }

    /// Empty for anything but a 64-bit little-endian ELF file with a dynamic section.
    static func needed(_ file: Int32) -> [String] {
        func read(_ offset: UInt64, _ count: Int) -> [UInt8]? {
            guard count <= 1 << 20, offset < 1 << 40 else { return nil }
            var bytes = [UInt8](repeating: 0, count: count)
            let n = bytes.withUnsafeMutableBytes { pread(file, $0.baseAddress, count, Int(offset)) }
            return n == count ? bytes : nil
        }
        func u64(_ bytes: [UInt8], _ at: Int) -> UInt64 {
            bytes.withUnsafeBytes { $0.loadUnaligned(fromByteOffset: at, as: UInt64.self).littleEndian }
        }
        guard let header = read(0, 64), header.prefix(6) == [0x7F, 0x45, 0x4C, 0x46, 2, 1] else { return [] }
        let programHeaders = u64(header, 32)
        let count = Int(header[56]) | Int(header[57]) << 8
        var loads: [(address: UInt64, offset: UInt64, size: UInt64)] = []
        var dynamic: (offset: UInt64, size: UInt64)?
        for index in 0..<min(count, 128) {
            guard let entry = read(programHeaders &+ UInt64(index * 56), 56) else { return [] }
            let type = UInt32(truncatingIfNeeded: u64(entry, 0))
            if type == 1 { loads.append((u64(entry, 16), u64(entry, 8), u64(entry, 32))) }  // PT_LOAD
            if type == 2 { dynamic = (u64(entry, 8), u64(entry, 32)) }  // PT_DYNAMIC
        }
        guard let dynamic, let table = read(dynamic.offset, Int(min(dynamic.size, 1 << 16))) else { return [] }
        var names: [UInt64] = []
        var strings: UInt64?
        for at in stride(from: 0, to: table.count - 15, by: 16) {
            switch u64(table, at) {
            case 1: names.append(u64(table, at + 8))  // DT_NEEDED
            case 5: strings = u64(table, at + 8)  // DT_STRTAB
            default: break
            }
        }
        guard let strings,
            let load = loads.first(where: { strings >= $0.address && strings - $0.address < $0.size })
        else { return [] }
        let base = strings - load.address &+ load.offset
        return names.compactMap { name in
            var text = [UInt8](repeating: 0, count: 256)
            let n = text.withUnsafeMutableBytes { pread(file, $0.baseAddress, 256, Int(clamping: base &+ name)) }
            return n <= 0 ? nil : String(decoding: text[..<n].prefix { $0 != 0 }, as: UTF8.self)
        }
    }
}
