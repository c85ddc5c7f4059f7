import CLinux
import Glibc

/// The application: found through the container's PATH and executed.
struct CommandExecution {
    /// NULL-terminated, not empty.
    let arguments: CStringVector
    var environment: ContainerEnvironment

    /// Becomes the command. Returns only to say why it could not.
    ///
    /// Every candidate is simply executed: a search with stat(2) first would ask the
    /// kernel twice. Bytes that are no program are an error, not a script for /bin/sh.
    func become() -> LaunchFailure {
        let name = CString(arguments[0]!)
        let search = environment.value("PATH") ?? c("")
        if name[0] == 0 { return LaunchFailure(.findCommand, "''", detail: search, errno: ENOENT) }
        if strchr(name, Int32(slash)) != nil {
            execve(name, arguments, environment.entries)
            let code = errno
            if code == ENOENT || code == ENOTDIR, access(name, F_OK) != 0 {
                return LaunchFailure(.findCommand, name, errno: code)
            }
            return LaunchFailure(.execute, name, detail: whyNot(name, code), errno: code)
        }
        eachCandidate(name, in: search) { candidate in
            execve(candidate, arguments, environment.entries)
        }
        return refusal(of: name, in: search)
    }

    /// Why no candidate was executed: asked again, one by one, now that time matters no more.
    private func refusal(of name: CString, in search: CString) -> LaunchFailure {
        var refusal: LaunchFailure?
        eachCandidate(name, in: search) { candidate in
            guard refusal == nil else { return }
            execve(candidate, arguments, environment.entries)
            let code = errno
            if code != ENOENT && code != ENOTDIR || access(candidate, F_OK) == 0 {
                let kept = copied(UnsafeRawBufferPointer(start: candidate, count: strlen(candidate)))
                refusal = LaunchFailure(.execute, kept, detail: whyNot(kept, code), errno: code)
            }
        }
        return refusal ?? LaunchFailure(.findCommand, name, detail: search, errno: ENOENT)
    }

    /// An empty PATH entry is the working directory (environ(7)).
    private func eachCandidate(_ name: CString, in search: CString, _ body: (CString) -> Void) {
        var candidate = ByteBuffer(capacity: strlen(search) + strlen(name) + 3)
        var at = 0
        while true {
            let start = at
            while search[at] != 0, search[at] != colon { at += 1 }
            candidate.truncate(to: 0)
            if at == start {
                candidate.append(CChar(0x2E))
            } else {
                candidate.append(search + start, count: at - start)
            }
            candidate.append(slash)
            candidate.append(name)
            body(candidate.cString)
            if search[at] == 0 { return }
            at += 1
        }
    }
}

/// What the file itself says about why the kernel refused it; nil when errno says it all.
func whyNot(_ path: CString, _ code: Int32) -> CString? {
    if code == EACCES {
        var status = stat()
        guard stat(path, &status) == 0 else { return nil }
        if status.st_mode & S_IFMT == S_IFDIR { return c("it is a directory") }
        if status.st_mode & 0o111 == 0 { return c("no execute permission (chmod +x)") }
        var system = statvfs()
        let isNoExec = statvfs(path, &system) == 0 && system.f_flag & 8 != 0  // ST_NOEXEC, statvfs(3)
        return isNoExec ? c("its file system is mounted noexec") : nil
    }
    let file = open(path, O_RDONLY | O_CLOEXEC)
    guard file >= 0 else { return nil }
    defer { close(file) }
    let head = UnsafeMutableRawBufferPointer.allocate(byteCount: 4096, alignment: 8)
    let length = read(file, head.baseAddress, head.count)
    guard length > 4 else { return c("the file is empty") }
    let bytes = UnsafeRawBufferPointer(rebasing: head[..<length])
    if bytes[0] == 0x23, bytes[1] == 0x21 { return interpreterLine(bytes) }
    guard bytes.loadUnaligned(as: UInt32.self).littleEndian == 0x464C_457F, length >= 64 else {
        return c("neither a program (ELF) nor a script that starts with #!")
    }
    return code == ENOENT ? missingLoader(bytes) : foreignMachine(bytes)
}

private func interpreterLine(_ bytes: UnsafeRawBufferPointer) -> CString {
    var text = ByteBuffer()
    text.append("its interpreter is missing or not executable in the image: ")
    var at = 2
    while at < bytes.count, bytes[at] == 0x20 || bytes[at] == 0x09 { at += 1 }
    let start = at
    while at < bytes.count, bytes[at] > 0x20 { at += 1 }
    if at == start { return c("its first line #! names no interpreter") }
    text.append(bytes.baseAddress!.assumingMemoryBound(to: CChar.self) + start, count: at - start)
    if at < bytes.count, bytes[at] == 0x0D { text.append(" (its line ends in a carriage return: a Windows text file)") }
    return text.cString
}

/// ENOENT for a program that exists: its loader (elf(5), PT_INTERP) does not.
private func missingLoader(_ bytes: UnsafeRawBufferPointer) -> CString? {
    guard bytes[4] == 2, bytes[5] == 1 else { return nil }  // 64-bit, little-endian
    let table = Int(truncatingIfNeeded: bytes.loadUnaligned(fromByteOffset: 32, as: UInt64.self))
    let size = Int(bytes.loadUnaligned(fromByteOffset: 54, as: UInt16.self))
    let count = Int(bytes.loadUnaligned(fromByteOffset: 56, as: UInt16.self))
    for index in 0..<count {
        let entry = table &+ index &* size
        guard entry >= 0, entry + 56 <= bytes.count else { return nil }
        guard bytes.loadUnaligned(fromByteOffset: entry, as: UInt32.self) == 3 else { continue }
        let offset = Int(truncatingIfNeeded: bytes.loadUnaligned(fromByteOffset: entry + 8, as: UInt64.self))
        let length = Int(truncatingIfNeeded: bytes.loadUnaligned(fromByteOffset: entry + 32, as: UInt64.self))
        guard offset >= 0, length > 1, length < 4096, offset < bytes.count, offset + length <= bytes.count else {
            return nil
        }
        var text = ByteBuffer()
        text.append("its loader is missing in the image: ")
        text.append(bytes.baseAddress!.assumingMemoryBound(to: CChar.self) + offset, count: length - 1)
        return text.cString
    }
    return nil
}

private func foreignMachine(_ bytes: UnsafeRawBufferPointer) -> CString {
    let isBig = bytes[5] == 2
    let raw = bytes.loadUnaligned(fromByteOffset: 18, as: UInt16.self)
    let machine = isBig ? raw.bigEndian : raw.littleEndian
    var text = ByteBuffer()
    text.append("the program is for ")
    if let name = machineName(machine, is64Bit: bytes[4] == 2, isBig: isBig) {
        text.append(name)
    } else {
        text.append("machine ")
        text.append(decimal: UInt64(machine))
    }
    text.append(", this host is ")
    var host = utsname()
    uname(&host)
    withUnsafeBytes(of: &host.machine) { text.append($0.baseAddress!.assumingMemoryBound(to: CChar.self)) }
    return text.cString
}

/// e_machine by the names that uname(2) uses (linux/elf-em.h).
private func machineName(_ machine: UInt16, is64Bit: Bool, isBig: Bool) -> StaticString? {
    switch machine {
    case 3: "i386"
    case 8: "mips"
    case 20: "ppc"
    case 21: isBig ? "ppc64" : "ppc64le"
    case 22: "s390x"
    case 40: "arm"
    case 62: is64Bit ? "x86_64" : "x32"
    case 183: "aarch64"
    case 243: is64Bit ? "riscv64" : "riscv32"
    case 258: "loongarch64"
    default: nil
    }
}
