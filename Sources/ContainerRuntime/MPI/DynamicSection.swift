/// What an ELF file asks the dynamic linker for (elf(5)): enough to tell which MPI a program was linked with.
package struct DynamicSection: Equatable, Sendable {
    package var needed: [String] = []
    /// `DT_RUNPATH` and `DT_RPATH`, split.
    package var searchPaths: [String] = []

    /// Nil when `image` is no 64-bit little-endian ELF file, has no dynamic section, or is cut short.
    package init?(_ image: [UInt8]) {
        guard let facts = ElfFacts(image), !facts.needed.isEmpty || facts.soname != nil else { return nil }
        needed = facts.needed
        searchPaths = facts.searchPaths
    }
}
