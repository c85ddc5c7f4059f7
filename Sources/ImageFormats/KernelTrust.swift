import CLinux
import Glibc
import LinuxSystem

extension ImageFile {
    /// FUSE (linux/magic.h): who serves it says what its files hold and whose they are.
    private static let fuseMagic = 0x6573_5546

    /// Whether this process is root of the machine, not of a user namespace, and the open file is root's, one
    /// that nobody else may write: only such an image may reach the kernel's own reader of squashfs.
    package static func isRootsOwn(_ descriptor: Int32) -> Bool {
        var status = stat()
        guard geteuid() == 0, fstat(descriptor, &status) == 0, status.isFile, status.st_uid == 0,
            status.st_mode & 0o022 == 0, linux_filesystem_magic(descriptor) != fuseMagic
        else { return false }
        return isMachinesRoot
    }

    /// user_namespaces(7): only the first namespace maps every id to itself.
    private static var isMachinesRoot: Bool {
        guard let file = fopen("/proc/self/uid_map", "re") else { return false }
        defer { fclose(file) }
        var line = [CChar](repeating: 0, count: 128)
        guard fgets(&line, 128, file) != nil else { return false }
        let text = String(decoding: line.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
        return text.split(whereSeparator: \.isWhitespace) == ["0", "0", "4294967295"]
    }
}

extension SquashReader {
    /// Every file belongs to root.
    package var isAllRoots: Bool { superblock.idCount == 1 && (try? identity(0)) == 0 }
}
