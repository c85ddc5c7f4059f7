/// The dynamic loader's cache, `/etc/ld.so.cache`: which file stands behind a soname.
///
/// Two formats, as ldconfig(8) `-c` writes them: the old one ("ld.so-1.7.0"), the new one
/// ("glibc-ld.so.cache1.1", alone since glibc 2.32), or the old one with the new one behind it.
/// Layout: `dl-cache.h` of glibc. The file is not trusted: every offset is checked.
package struct LoaderCache: Equatable, Sendable {
    package struct Entry: Equatable, Sendable {
        /// `libcuda.so.1`
        package var name: String
        /// `/usr/lib/x86_64-linux-gnu/libcuda.so.1`
        package var path: String
        /// Kind of library: the low byte is 3 for libc6, the next the architecture (0: i386 and other defaults).
        package var flags: UInt32
    }
    package var entries: [Entry]

    private enum Layout {
        static let oldMagic = Array("ld.so-1.7.0\0".utf8)
        static let oldHeader = 16
        static let oldEntry = 12
        static let newMagic = Array("glibc-ld.so.cache1.1".utf8)
        static let newHeader = 48
        static let newEntry = 24
        static let nameBytes = 4096
        static let entries = 1 << 20
    }

    /// Nil when `bytes` is in neither format.
    package init?(_ bytes: [UInt8]) {
        if bytes.starts(with: Layout.newMagic) {
            guard let found = Self.newEntries(bytes, from: 0) else { return nil }
            entries = found
            return
        }
        guard bytes.starts(with: Layout.oldMagic), let count = Self.number(bytes, 12), count <= Layout.entries else {
            return nil
        }
        let end = Layout.oldHeader + count * Layout.oldEntry
        guard end <= bytes.count else { return nil }
        // The newer one behind it, if there, has more in it.
        let aligned = (end + 7) & ~7
        if aligned < bytes.count, bytes[aligned...].starts(with: Layout.newMagic),
            let found = Self.newEntries(bytes, from: aligned)
        {
            entries = found
            return
        }
        entries = (0..<count).compactMap { index in
            Self.entry(bytes, at: Layout.oldHeader + index * Layout.oldEntry, textsFrom: end)
        }
    }

    private static func newEntries(_ bytes: [UInt8], from start: Int) -> [Entry]? {
        guard let count = number(bytes, start + 20), count <= Layout.entries,
            start + Layout.newHeader + count * Layout.newEntry <= bytes.count
        else { return nil }
        return (0..<count).compactMap {
            entry(bytes, at: start + Layout.newHeader + $0 * Layout.newEntry, textsFrom: start)
        }
    }

    private static func entry(_ bytes: [UInt8], at: Int, textsFrom start: Int) -> Entry? {
        guard let flags = number(bytes, at), let key = number(bytes, at + 4), let value = number(bytes, at + 8),
            let name = text(bytes, start + key), let path = text(bytes, start + value)
        else { return nil }
        return Entry(name: name, path: path, flags: UInt32(truncatingIfNeeded: flags))
    }

    private static func number(_ bytes: [UInt8], _ at: Int) -> Int? {
        guard at >= 0, at + 4 <= bytes.count else { return nil }
        return Int(bytes[at]) | Int(bytes[at + 1]) << 8 | Int(bytes[at + 2]) << 16 | Int(bytes[at + 3]) << 24
    }

    private static func text(_ bytes: [UInt8], _ at: Int) -> String? {
        guard at >= 0, at < bytes.count else { return nil }
        let text = bytes[at...].prefix(Layout.nameBytes).prefix { $0 != 0 }
        guard !text.isEmpty, text.endIndex < bytes.count, bytes[text.endIndex] == 0 else { return nil }
        return String(decoding: text, as: UTF8.self)
    }
}
