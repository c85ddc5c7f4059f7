import Glibc
import LinuxSystem

/// Where trireme keeps things, from the environment (XDG base directories; `TRIREME_*` first).
///
/// The launcher `trireme` finds the store by the same rule on C strings
/// (`ContainerLaunch`); the two must agree.
package struct Locations: Sendable, Equatable {
    /// The image store written to: the first path of `TRIREME_STORE`, else `$XDG_DATA_HOME/trireme/store`, else `~/.local/share/trireme/store`.
    package var store: String
    /// Stores that are only read: the second and later paths of `TRIREME_STORE`, separated by colons.
    package var siteStores: [String] = []
    /// All of them as `TRIREME_STORE` has them.
    package var storeList: String { ([store] + siteStores).joined(separator: ":") }
    /// Records of clusters and jobs: `$XDG_STATE_HOME/trireme`, else `~/.local/state/trireme`.
    package var state: String
    /// Temporary space: `TRIREME_TMPDIR`, else `TMPDIR`, else `/tmp`.
    package var temporary: String
    package var home: String

    package init(environment: (String) -> String?) {
        func nonEmpty(_ name: String) -> String? { environment(name).flatMap { $0.isEmpty ? nil : $0 } }
        home = nonEmpty("HOME") ?? "/"
        let stores = (nonEmpty("TRIREME_STORE") ?? "").split(separator: ":").map(String.init)
        store = stores.first ?? (nonEmpty("XDG_DATA_HOME") ?? home + "/.local/share") + "/trireme/store"
        siteStores = Array(stores.dropFirst())
        state = (nonEmpty("XDG_STATE_HOME") ?? home + "/.local/state") + "/trireme"
        temporary = nonEmpty("TRIREME_TMPDIR") ?? nonEmpty("TMPDIR") ?? "/tmp"
    }

    package static func current() -> Locations {
        Locations { name in getenv(name).map { String(cString: $0) } }
    }

    /// The directory this program's executable lies in; `trireme`, `trireme-cli`
    /// and `trireme-agent` are installed side by side. proc(5) `/proc/self/exe`
    package static func programDirectory() throws(SyscallError) -> String {
        var buffer = [UInt8](repeating: 0, count: 4096)
        let n = try checked("readlink", "/proc/self/exe") {
            buffer.withUnsafeMutableBytes {
                readlink("/proc/self/exe", $0.baseAddress!.assumingMemoryBound(to: CChar.self), $0.count)
            }
        }
        let path = String(decoding: buffer[..<n], as: UTF8.self)
        return String(path[..<(path.lastIndex(of: "/") ?? path.startIndex)])
    }
}
