import CLinux
import Glibc
import LaunchPlan
import LinuxSystem

/// /etc/passwd and /etc/group for a caller for whom the image was not prepared: another user's image, a
/// plain directory. The image's own, and the caller's line where it has none of that number.
///
/// The caller's name is in the host's files, or is asked for by getent(1): a directory service is
/// reached by modules that a static program cannot load.
struct Accounts {
    private static let fileBytes = 4 << 20
    private let passwd: ByteBuffer
    private let group: ByteBuffer

    init(_ layers: LayerStack, uid: UInt32, gid: UInt32, home: CString) {
        var users = layers.contents(of: c("etc/passwd"), limit: Self.fileBytes)
        if Self.line(ofNumber: uid, in: users) == nil {
            Self.endLine(&users)
            Self.appendField(0, of: Self.hostLine(c("passwd"), uid), orElse: "user", uid, to: &users)
            users.append(":x:")
            users.append(decimal: UInt64(uid))
            users.append(colon)
            users.append(decimal: UInt64(gid))
            users.append("::")
            // A field cannot hold the separator.
            users.append(strchr(home, Int32(colon)) == nil ? home : c("/"))
            users.append(":/bin/sh\n")
        }
        passwd = users
        var groups = layers.contents(of: c("etc/group"), limit: Self.fileBytes)
        if Self.line(ofNumber: gid, in: groups) == nil {
            Self.endLine(&groups)
            Self.appendField(0, of: Self.hostLine(c("group"), gid), orElse: "group", gid, to: &groups)
            groups.append(":x:")
            groups.append(decimal: UInt64(gid))
            groups.append(":\n")
        }
        // What the caller's other groups are shown as (user_namespaces(7)): groups(1) complains without a line.
        if Self.line(ofNumber: 65534, in: groups) == nil {
            Self.endLine(&groups)
            groups.append("nogroup:x:65534:\n")
        }
        group = groups
    }

    var passwdContent: UnsafeRawBufferPointer { UnsafeRawBufferPointer(start: passwd.bytes, count: passwd.count) }
    var groupContent: UnsafeRawBufferPointer { UnsafeRawBufferPointer(start: group.bytes, count: group.count) }

    private static func endLine(_ text: inout ByteBuffer) {
        if text.count > 0, text.bytes[text.count - 1] != newline { text.append(newline) }
    }

    /// The line whose third field is `number` (passwd(5), group(5)).
    private static func line(ofNumber number: UInt32, in text: ByteBuffer) -> UnsafeRawBufferPointer? {
        var wanted = ByteBuffer(capacity: 16)
        wanted.append(decimal: UInt64(number))
        var start = 0
        while start < text.count {
            var end = start
            while end < text.count, text.bytes[end] != newline { end += 1 }
            let line = UnsafeRawBufferPointer(start: text.bytes + start, count: end - start)
            if let field = field(2, of: line), field.count == wanted.count,
                memcmp(field.baseAddress!, wanted.bytes, wanted.count) == 0
            {
                return line
            }
            start = end + 1
        }
        return nil
    }

    private static func field(_ number: Int, of line: UnsafeRawBufferPointer) -> UnsafeRawBufferPointer? {
        var seen = 0
        var start = 0
        for index in 0...line.count where index == line.count || line[index] == UInt8(ascii: ":") {
            if seen == number { return UnsafeRawBufferPointer(rebasing: line[start..<index]) }
            seen += 1
            start = index + 1
        }
        return nil
    }

    private static func appendField(
        _ number: Int, of line: ByteBuffer?, orElse name: StaticString, _ id: UInt32, to text: inout ByteBuffer
    ) {
        if let line, let field = field(number, of: UnsafeRawBufferPointer(start: line.bytes, count: line.count)),
            field.count > 0
        {
            text.append(field.baseAddress!.assumingMemoryBound(to: CChar.self), count: field.count)
        } else {
            text.append(name)
            text.append(decimal: UInt64(id))
        }
    }

    /// The host's line for `number`: from its file, else from getent(1).
    private static func hostLine(_ database: CString, _ number: UInt32) -> ByteBuffer? {
        let file = isEqual(database, "passwd") ? c("/etc/passwd") : c("/etc/group")
        let text = hostFile(file, limit: fileBytes)
        if let line = line(ofNumber: number, in: text) {
            var found = ByteBuffer(capacity: line.count + 2)
            found.append(line.baseAddress!.assumingMemoryBound(to: CChar.self), count: line.count)
            return found
        }
        return asked(database, number)
    }

    private static func asked(_ database: CString, _ number: UInt32) -> ByteBuffer? {
        var digits = ByteBuffer(capacity: 16)
        digits.append(decimal: UInt64(number))
        var ends: (Int32, Int32) = (-1, -1)
        let made = withUnsafeMutableBytes(of: &ends) {
            linux_pipe2($0.baseAddress!.assumingMemoryBound(to: Int32.self), O_CLOEXEC)
        }
        guard made == 0 else { return nil }
        let words = CStringVector.allocate(capacity: 4)
        words[0] = UnsafeMutablePointer(mutating: c("getent"))
        words[1] = UnsafeMutablePointer(mutating: database)
        words[2] = UnsafeMutablePointer(mutating: digits.cString)
        words[3] = nil
        let child = linux_fork()
        if child == 0 {
            dup2(ends.1, 1)
            let null = Glibc.open("/dev/null", O_RDWR | O_CLOEXEC)
            if null >= 0 {
                dup2(null, 0)
                dup2(null, 2)
            }
            let nothing = CStringVector.allocate(capacity: 1)
            nothing[0] = nil
            execve(c("/usr/bin/getent"), words, nothing)
            execve(c("/bin/getent"), words, nothing)
            _exit(127)
        }
        close(ends.1)
        defer { close(ends.0) }
        guard child > 0 else { return nil }
        let answer = readAll(ends.0, limit: 65536)
        var status: Int32 = 0
        while waitpid(child, &status, 0) < 0, errno == EINTR {}
        return status == 0 && answer.count > 0 ? answer : nil
    }
}

private let newline = CChar(0x0A)
