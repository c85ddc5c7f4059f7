import CLinux
import Glibc
import LaunchPlan

/// The host's /etc/hosts with the host's own name in it, nil when it is there already.
///
/// A host may know its own name through a module of its resolver that no image has; a program that
/// looks it up (OpenMPI does at its start) would then wait for name servers, 5 s and more.
func completedHosts() -> ByteBuffer? {
    var system = utsname()
    guard uname(&system) == 0 else { return nil }
    return withUnsafeBytes(of: &system.nodename) { raw -> ByteBuffer? in
        let name = raw.baseAddress!.assumingMemoryBound(to: CChar.self)
        if name[0] == 0 || isEqual(name, "localhost") { return nil }
        var text = hostFile(c("/etc/hosts"), limit: 1 << 20)
        if holdsName(text, name) { return nil }
        if text.count == 0 {
            text.append("127.0.0.1 localhost\n::1 localhost\n")
        } else if text.bytes[text.count - 1] != 0x0A {
            text.append(CChar(0x0A))
        }
        appendOwnAddress(to: &text)
        text.append(CChar(0x20))
        text.append(name)
        text.append(CChar(0x0A))
        return text
    }
}

/// Whether a line of hosts(5) gives `name` an address.
private func holdsName(_ text: ByteBuffer, _ name: CString) -> Bool {
    let length = strlen(name)
    var at = 0
    while at < text.count {
        var isFirst = true
        while at < text.count, text.bytes[at] != 0x0A, text.bytes[at] != 0x23 {
            while at < text.count, text.bytes[at] == 0x20 || text.bytes[at] == 0x09 { at += 1 }
            let start = at
            while at < text.count, !isBreak(text.bytes[at]) { at += 1 }
            if !isFirst, at - start == length, strncasecmp(text.bytes + start, name, length) == 0 { return true }
            if at > start { isFirst = false }
            if at < text.count, text.bytes[at] == 0x0D { at += 1 }
        }
        while at < text.count, text.bytes[at] != 0x0A { at += 1 }
        at += 1
    }
    return false
}

private func isBreak(_ byte: CChar) -> Bool {
    byte == 0x20 || byte == 0x09 || byte == 0x0A || byte == 0x0D || byte == 0x23
}

/// The address this host would use towards others (connect(2) of a datagram socket sends nothing),
/// else 127.0.1.1, by which Debian names a host without one.
private func appendOwnAddress(to text: inout ByteBuffer) {
    let socket = Glibc.socket(AF_INET, Int32(SOCK_DGRAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue), 0)
    defer { if socket >= 0 { close(socket) } }
    var address = sockaddr_in()
    address.sin_family = sa_family_t(AF_INET)
    address.sin_port = UInt16(9).bigEndian
    // 192.0.2.1 is nobody's (RFC 5737): only the route is asked for.
    address.sin_addr.s_addr = UInt32(0xC000_0201).bigEndian
    var length = socklen_t(MemoryLayout<sockaddr_in>.size)
    let isKnown = withUnsafeMutablePointer(to: &address) { pointer in
        pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
            socket >= 0 && connect(socket, $0, length) == 0 && getsockname(socket, $0, &length) == 0
        }
    }
    guard isKnown, address.sin_addr.s_addr != 0 else {
        text.append("127.0.1.1")
        return
    }
    withUnsafeBytes(of: &address.sin_addr.s_addr) { raw in
        for index in 0..<4 {
            if index > 0 { text.append(CChar(0x2E)) }
            text.append(decimal: UInt64(raw[index]))
        }
    }
}

/// The host's file of the zone that TZ names, when TZ passes into an image that has no zones:
/// it is shown as /etc/localtime, and TZ says so.
func hostZone(
    _ options: LaunchPlan.Options, _ host: UnsafePointer<UnsafeMutablePointer<CChar>?>
) -> CString? {
    guard options.contains(.lacksTimeZones), !options.contains(.cleanEnvironment),
        let entry = ContainerEnvironment.find(c("TZ"), 2, in: host)
    else { return nil }
    var name = entry + 3
    if name[0] == colon { name += 1 }
    if hasPrefix(name, "/usr/share/zoneinfo/") { name += 20 }
    if name[0] == 0 || name[0] == slash || strstr(name, c("..")) != nil { return nil }
    let path = joined(c("/usr/share/zoneinfo/"), name)
    var status = stat()
    return stat(path, &status) == 0 && status.st_mode & S_IFMT == S_IFREG ? path : nil
}

func joined(_ a: CString, _ b: CString) -> CString {
    var buffer = ByteBuffer(capacity: strlen(a) + strlen(b) + 2)
    buffer.append(a)
    buffer.append(b)
    return buffer.cString
}
