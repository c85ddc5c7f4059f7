import ImageFormats

/// The libraries an image brings, and the C library the host's must be loadable beside.
package struct ImageLibraries {
    package enum CLibrary: Equatable, Sendable {
        case glibc(GlibcVersion)
        /// musl: nothing built for glibc can be loaded.
        case musl
        /// No dynamic loader at all: only static programs.
        case none
    }
    package let tree: MergedTree
    package let cLibrary: CLibrary

    package static let directories = [
        "/usr/local/lib", "/lib/x86_64-linux-gnu", "/usr/lib/x86_64-linux-gnu", "/lib/aarch64-linux-gnu",
        "/usr/lib/aarch64-linux-gnu", "/lib64", "/usr/lib64", "/usr/local/lib64", "/lib", "/usr/lib",
    ]

    package init(_ tree: MergedTree) {
        self.tree = tree
        if let facts = Self.facts("libc.so.6", in: tree), let version = facts.definedGlibc {
            cLibrary = .glibc(version)
        } else if tree.names(in: "/lib").contains(where: { $0.hasPrefix("ld-musl-") }) {
            cLibrary = .musl
        } else {
            cLibrary = .none
        }
    }

    /// The image's own library of this soname.
    package func facts(_ soname: String) -> ElfFacts? { Self.facts(soname, in: tree) }

    package func path(of soname: String) -> String? {
        Self.directories.lazy.map { "\($0)/\(soname)" }.first { ElfFacts($0, in: tree)?.is64Bit == true }
    }

    private static func facts(_ soname: String, in tree: MergedTree) -> ElfFacts? {
        directories.lazy.compactMap { ElfFacts("\($0)/\(soname)", in: tree) }.first {
            $0.is64Bit && $0.machine == ElfFacts.hostMachine
        }
    }

    /// Why a library of the host cannot be loaded in this image; nil when it can.
    package func objection(to facts: ElfFacts) -> String? {
        switch cLibrary {
        case .none: return nil
        case .musl: return "the image's C library is musl, and the host's libraries are built for glibc"
        case .glibc(let own):
            guard let needed = facts.neededGlibc, needed > own else { return nil }
            return "needs glibc \(needed), the image has \(own)"
        }
    }
}
