/// The name of an archive entry, taken apart and made safe: no `..` above the root, no `.`, no empty parts.
package struct EntryPath: Sendable {
    /// Everything but the last component, joined by `/`; empty for the root.
    package var parent: [UInt8]
    /// The last component; empty when the entry is the root itself.
    package var name: [UInt8]

    package var full: [UInt8] { parent.isEmpty ? name : parent + [UInt8(ascii: "/")] + name }
    package var isRoot: Bool { name.isEmpty }

    /// Absolute names are read relative to the root; `a/../b` is `b`, as tar and docker clean names.
    ///
    /// - Throws: `.hostile` when the name climbs above the root or holds a NUL.
    package init(_ raw: [UInt8]) throws(ArchiveFault) {
        if raw.contains(0) { throw ArchiveFault(.hostile, entry: raw, "the name holds a NUL byte") }
        if EntryPath.isPlain(raw) {
            // Nearly every entry: nothing to clean.
            let end = raw.last == UInt8(ascii: "/") ? raw.count - 1 : raw.count
            if let slash = raw[..<end].lastIndex(of: UInt8(ascii: "/")) {
                parent = Array(raw[..<slash])
                name = Array(raw[(slash + 1)..<end])
            } else {
                parent = []
                name = Array(raw[..<end])
            }
            return
        }
        var components: [ArraySlice<UInt8>] = []
        for component in raw.split(separator: UInt8(ascii: "/")) {
            if component.elementsEqual(".".utf8) { continue }
            if component.elementsEqual("..".utf8) {
                guard components.popLast() != nil else {
                    throw ArchiveFault(.hostile, entry: raw, "the name leads outside the image's root")
                }
                continue
            }
            components.append(component)
        }
        name = components.popLast().map(Array.init) ?? []
        parent = Array(components.joined(separator: [UInt8(ascii: "/")]))
    }

    /// Whether no component is empty, `.` or `..`, but for one trailing slash.
    private static func isPlain(_ raw: [UInt8]) -> Bool {
        var start = 0
        let count = raw.count
        guard count > 0 else { return false }
        for i in 0...count where i == count || raw[i] == UInt8(ascii: "/") {
            let length = i - start
            if length == 0 { return i == count && start > 0 }
            if raw[start] == UInt8(ascii: "."), length == 1 || (length == 2 && raw[start + 1] == UInt8(ascii: ".")) {
                return false
            }
            start = i + 1
        }
        return true
    }
}
