import Glibc

/// The one-line user and group maps an unprivileged process may write. user_namespaces(7)
package struct IDMapping: Equatable, Sendable {
    package var insideUID: UInt32
    package var outsideUID: UInt32
    package var insideGID: UInt32
    package var outsideGID: UInt32

    package init(insideUID: UInt32, outsideUID: UInt32, insideGID: UInt32, outsideGID: UInt32) {
        self.insideUID = insideUID
        self.outsideUID = outsideUID
        self.insideGID = insideGID
        self.outsideGID = outsideGID
    }

    /// Writes the maps of the calling process, just after it entered its new user
    /// namespace. setgroups(2) is denied first: the kernel demands it of the unprivileged.
    package func write() throws(SyscallError) {
        try Self.put("deny", into: "/proc/self/setgroups")
        try Self.put("\(insideUID) \(outsideUID) 1", into: "/proc/self/uid_map")
        try Self.put("\(insideGID) \(outsideGID) 1", into: "/proc/self/gid_map")
    }

    private static func put(_ text: String, into path: String) throws(SyscallError) {
        let file = try OwnedDescriptor.open(path, O_WRONLY)
        do { try file.writeAll(text) } catch { throw SyscallError("write", path, errno: error.errno) }
    }
}
