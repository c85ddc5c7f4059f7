/// A shared library of the host.
package struct HostLibrary: Equatable, Sendable {
    /// The name it was found by (`libcuda.so.1`).
    package var name: String
    /// Where the file really lies in the host's root, links followed.
    package var path: String
    package var facts: ElfFacts

    /// `libcuda.so.550.54.14`
    package var fileName: String { String(path[path.index(after: path.lastIndex(of: "/")!)...]) }
    package var directory: String { String(path[..<path.lastIndex(of: "/")!]) }
}

/// Finds libraries as the host's loader would: LD_LIBRARY_PATH, its cache, its standard directories.
/// The cache may be stale (files gone, files not yet in it) and hold 32-bit copies: both are seen through.
package final class HostLibraries {
    package let root: HostRoot
    private let machine: UInt16
    private let first: [String]
    private let extra: [String]
    private let cache: [String: [String]]

    private static let standard = [
        "/lib/x86_64-linux-gnu", "/usr/lib/x86_64-linux-gnu", "/lib/aarch64-linux-gnu", "/usr/lib/aarch64-linux-gnu",
        "/lib64", "/usr/lib64", "/lib", "/usr/lib", "/usr/local/lib", "/usr/local/lib64",
    ]

    /// - Parameters:
    ///   - first: directories before the cache: the caller's LD_LIBRARY_PATH, where modules put theirs.
    ///   - extra: directories after everything else, where a vendor keeps its libraries.
    package init(root: HostRoot, machine: UInt16 = ElfFacts.hostMachine, first: [String] = [], extra: [String] = []) {
        self.root = root
        self.machine = machine
        self.first = first.filter { $0.hasPrefix("/") }
        self.extra = extra
        var cache: [String: [String]] = [:]
        let entries = root.bytes(of: "/etc/ld.so.cache", limit: 64 << 20).flatMap(LoaderCache.init)?.entries ?? []
        for entry in entries { cache[entry.name, default: []].append(entry.path) }
        self.cache = cache
    }

    /// The library that a program asking for `name` would get; nil when there is none of this machine's kind.
    package func library(_ name: String) -> HostLibrary? {
        if name.hasPrefix("/") { return at(name, name) }
        for directory in first { if let found = at("\(directory)/\(name)", name) { return found } }
        for path in cache[name] ?? [] { if let found = at(path, name) { return found } }
        for directory in Self.standard + extra { if let found = at("\(directory)/\(name)", name) { return found } }
        return nil
    }

    /// All libraries whose names satisfy `isWanted`, each real file once per name, by name.
    package func libraries(where isWanted: (String) -> Bool) -> [HostLibrary] {
        var names = Set(cache.keys.filter(isWanted))
        var seen: Set<String> = []
        for directory in first + Self.standard + extra {
            guard let real = root.realPath(directory), seen.insert(real).inserted else { continue }
            names.formUnion(root.names(in: directory).filter(isWanted))
        }
        return names.sorted().compactMap(library)
    }

    private func at(_ path: String, _ name: String) -> HostLibrary? {
        guard let real = root.realPath(path), let facts = root.elf(real), facts.is64Bit, facts.machine == machine else {
            return nil
        }
        return HostLibrary(name: name, path: real, facts: facts)
    }
}

extension ElfFacts {
    /// e_machine of programs for the processor trireme was built for.
    package static var hostMachine: UInt16 {
        #if arch(x86_64)
            62
        #elseif arch(arm64)
            183
        #else
            #error("the number of this processor (linux/elf-em.h) is missing")
        #endif
    }
}
