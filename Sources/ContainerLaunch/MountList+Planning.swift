import Glibc
import LaunchPlan
import LinuxSystem

// Which mounts a launch gets: first what every container shows of its host, then the
// plan's, then the command line's; a later one at the same place covers the earlier.

extension MountList {
    init(_ entry: ContainerEntry, identity: Identity, directory: CString?) throws(LaunchFailure) {
        var bindCount = 0
        while entry.request.binds[bindCount] != nil { bindCount += 1 }
        self.init(capacity: 16 + entry.facts.mountCount + bindCount)
        var planned = MountList(capacity: entry.facts.mountCount + bindCount + 1)
        planned.appendPlanned(entry.plan)
        for index in 0..<bindCount { planned.append(try parseBind(entry.request.binds[index]!, in: directory)) }

        appendSystem()
        let prepared = entry.facts.preparedForUID == identity.callerUID
        for path in hostFiles(prepared: prepared) where !planned.covers(path) {
            append(MountRequest(source: path, destination: path, isOptional: true))
        }
        if !entry.options.contains(.noHome) {
            appendHome(entry.host)
            appendDirectory(directory)
        }
        for index in 0..<planned.count { append(planned.requests[index]) }
        markReady(entry.plan, hasAccounts: entry.facts.preparedForUID != nil)
    }

    private mutating func appendSystem() {
        append(MountRequest(source: c("/proc"), destination: c("/proc")))
        append(MountRequest(source: c("/sys"), destination: c("/sys")))
        append(MountRequest(source: c("/dev"), destination: c("/dev")))
        append(MountRequest(source: c("/tmp"), destination: c("/tmp")))
    }

    private mutating func appendHome(_ host: UnsafePointer<UnsafeMutablePointer<CChar>?>) {
        guard let entry = ContainerEnvironment.find(c("HOME"), 4, in: host), entry[5] == slash else { return }
        let home = cleaned(entry + 5, in: nil)
        // A daemon's account may live in /usr or /var/www: what is the image's stays the image's.
        if isSystemPath(home) || isInside(home, c("/tmp")) { return }
        var status = stat()
        guard stat(home, &status) == 0, status.st_mode & S_IFMT == S_IFDIR, access(home, X_OK) == 0 else { return }
        append(MountRequest(source: home, destination: home, isOptional: true))
    }

    private mutating func appendDirectory(_ directory: CString?) {
        guard let directory, !isSystemPath(directory), enclosing(directory, before: count) == nil, !covers(directory)
        else { return }
        append(MountRequest(source: directory, destination: directory, isOptional: true))
    }

    private mutating func appendPlanned(_ plan: LaunchPlanReader) {
        var source: CString?
        var destination: CString?
        plan.forEach { record in
            switch record.tag {
            case .mountSource: source = record.cString
            case .mountDestination, .fileDestination: destination = cleaned(record.cString, in: c("/"))
            case .mountFlags:
                guard let from = source, let to = destination else { return }
                let flags = record.number
                var request = MountRequest(source: from, destination: to)
                request.kind = flags & 4 != 0 ? .temporary : .bind
                request.origin = .plan
                request.isReadOnly = flags & 1 != 0
                request.isOptional = flags & 2 != 0
                append(request)
            case .fileContent:
                guard let to = destination else { return }
                var request = MountRequest(source: to, destination: to)
                request.kind = .file
                request.origin = .plan
                request.isDirectory = false
                request.content = record.payload
                append(request)
            default: break
            }
        }
    }

    /// A plan's file is bound over what the image has, unless the launch owns the directory it is in.
    func mustStage(_ index: Int) -> Bool {
        if let outer = enclosing(requests[index].destination, before: index) {
            return requests[outer].kind != .temporary
        }
        return requests[index].isReady
    }
}

/// The host's files that every container shows: names and time; and the accounts when
/// the image's were not prepared for the caller.
private func hostFiles(prepared: Bool) -> HostFiles { HostFiles(includesAccounts: !prepared) }

private struct HostFiles: Sequence, IteratorProtocol {
    let includesAccounts: Bool
    var index = 0

    init(includesAccounts: Bool) { self.includesAccounts = includesAccounts }

    mutating func next() -> CString? {
        defer { index += 1 }
        switch index {
        case 0: return c("/etc/hosts")
        case 1: return c("/etc/resolv.conf")
        case 2: return c("/etc/hostname")
        case 3: return c("/etc/localtime")
        case 4: return includesAccounts ? c("/etc/passwd") : nil
        case 5: return c("/etc/group")
        default: return nil
        }
    }
}

/// Where the image's own files are: a home or working directory of the host there is not mounted.
func isSystemPath(_ path: CString) -> Bool {
    if path[1] == 0 { return true }
    if isInside(path, c("/usr")) || isInside(path, c("/etc")) || isInside(path, c("/bin")) { return true }
    if isInside(path, c("/sbin")) || hasPrefix(path, "/lib") || isInside(path, c("/boot")) { return true }
    if isInside(path, c("/proc")) || isInside(path, c("/sys")) || isInside(path, c("/dev")) { return true }
    if isInside(path, c("/opt")) || isInside(path, c("/run")) { return true }
    if isInside(path, c("/var")) { return !isInside(path, c("/var/tmp")) }
    return false
}

/// `SRC[:DST[:OPTIONS]]`, with `\:` for a colon in a name; OPTIONS is `ro` or `rw`.
/// SRC is relative to `directory`; DST is SRC when it is left out.
func parseBind(_ text: CString, in directory: CString?) throws(LaunchFailure) -> MountRequest {
    var fields: (CString?, CString?, CString?) = (nil, nil, nil)
    var field = ByteBuffer(capacity: strlen(text) + 2)
    var number = 0
    var at = 0
    while true {
        let byte = text[at]
        if byte == 0x5C, text[at + 1] == colon {
            field.append(colon)
            at += 2
            continue
        }
        if byte == colon || byte == 0 {
            switch number {
            case 0: fields.0 = field.cString
            case 1: fields.1 = field.cString
            case 2: fields.2 = field.cString
            default: throw LaunchFailure(.parseCommandLine, text, detail: c("--bind"), errno: EINVAL)
            }
            number += 1
            if byte == 0 { break }
            field = ByteBuffer(capacity: strlen(text) + 2)
        } else {
            field.append(byte)
        }
        at += 1
    }
    guard let from = fields.0, from[0] != 0, fields.1.map({ $0[0] == slash }) ?? true else {
        throw LaunchFailure(.parseCommandLine, text, detail: c("--bind"), errno: EINVAL)
    }
    let source = cleaned(from, in: directory)
    let destination = fields.1.map { cleaned($0, in: nil) } ?? source
    var request = MountRequest(source: source, destination: destination)
    request.origin = .user
    if let options = fields.2 {
        if isEqual(options, "ro") {
            request.isReadOnly = true
        } else if !isEqual(options, "rw") {
            throw LaunchFailure(.parseCommandLine, text, detail: c("--bind"), errno: EINVAL)
        }
    }
    if isEqual(destination, "/") || isInside(destination, c("/proc")) || isInside(destination, c("/sys")) {
        throw LaunchFailure(.attachMount, destination, detail: source, errno: EBUSY)
    }
    return request
}
