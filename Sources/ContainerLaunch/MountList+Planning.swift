import Glibc
import LaunchPlan
import LinuxSystem

// Which mounts a launch gets: first what every container shows of its host, then the
// plan's, then the command line's; a later one at the same place covers the earlier.

extension MountList {
    init(_ entry: ContainerEntry, identity: Identity, directory: CString?) throws(LaunchFailure) {
        let site = SiteBinds.find(entry.host)
        var bindCount = 0
        var index = 0
        while let text = entry.request.binds[index] {
            bindCount += BindText.bound(text)
            index += 1
        }
        if let site { bindCount += BindText.bound(site.text) }
        self.init(capacity: 44 + entry.facts.mountCount + bindCount)
        var planned = MountList(capacity: entry.facts.mountCount + bindCount + 1)
        if let site, site.text[0] != 0 { try planned.append(BindText(site.text, in: directory, from: site.variable)) }
        try planned.appendPlanned(entry.plan, directory, hasAccounts: !entry.options.contains(.fakeRoot))
        index = 0
        while let text = entry.request.binds[index] {
            try planned.append(BindText(text, in: directory))
            index += 1
        }
        planned.orderByDepth(from: 0)

        appendSystem(entry.options, entry.namespaces)
        appendHostFiles(entry, identity, besides: planned)
        if !entry.options.contains(.noHome) {
            appendHome(entry.host, directory)
            appendDirectory(directory)
            appendTypedDirectory(entry.host, directory)
            if !entry.options.contains(.privateTemporary) { appendTemporarySpaces(entry.host) }
        }
        if !entry.options.contains(.isolated) { appendLauncherDirectory(entry.host) }
        for index in 0..<planned.count { append(planned.requests[index]) }
        markReady(entry.plan, hasAccounts: entry.facts.preparedForUID != nil)
    }

    private mutating func append(_ binds: BindText) throws(LaunchFailure) {
        var binds = binds
        while let request = try binds.next() { append(request) }
    }

    private mutating func appendSystem(_ options: LaunchPlan.Options, _ namespaces: Int32) {
        appendKernelFileSystems(options, namespaces)
        guard options.contains(.privateTemporary) else {
            append(MountRequest(source: c("/tmp"), destination: c("/tmp")))
            return
        }
        append(MountRequest(kind: .temporary, source: c("mode=1777"), destination: c("/tmp")))
        append(MountRequest(kind: .temporary, source: c("mode=1777"), destination: c("/var/tmp")))
    }

    /// Names and time; and accounts when the image's were not prepared for the caller.
    private mutating func appendHostFiles(_ entry: ContainerEntry, _ identity: Identity, besides planned: MountList) {
        if !planned.covers(c("/etc/hosts")) {
            if let hosts = completedHosts() {
                append(file(c("/etc/hosts"), UnsafeRawBufferPointer(start: hosts.bytes, count: hosts.count)))
            } else {
                appendHostFile(c("/etc/hosts"))
            }
        }
        if !planned.covers(c("/etc/resolv.conf")) { appendHostFile(c("/etc/resolv.conf")) }
        if !planned.covers(c("/etc/hostname")) { appendHostFile(c("/etc/hostname")) }
        if !planned.covers(c("/etc/localtime")) {
            appendHostFile(hostZone(entry.options, entry.host) ?? c("/etc/localtime"), at: c("/etc/localtime"))
        }
        // Who is shown as root is in the image's own accounts, and may want to edit them: a file that is mounted cannot
        // be replaced, as groupadd(8) does.
        guard entry.facts.preparedForUID != identity.callerUID, !entry.options.contains(.fakeRoot) else { return }
        let base = open(entry.store, PathFlags.path | O_DIRECTORY | O_CLOEXEC)
        defer { if base >= 0 { close(base) } }
        let layers = LayerStack(entry.plan, base: base)
        defer { layers.close() }
        let home = ContainerEnvironment.find(c("HOME"), 4, in: entry.host).map { $0 + 5 } ?? c("/")
        let accounts = Accounts(layers, uid: identity.callerUID, gid: identity.callerGID, home: home)
        if !planned.covers(c("/etc/passwd")) { append(file(c("/etc/passwd"), accounts.passwdContent)) }
        if !planned.covers(c("/etc/group")) { append(file(c("/etc/group"), accounts.groupContent)) }
    }

    private mutating func appendHostFile(_ source: CString, at destination: CString? = nil) {
        append(.hostsOwn(source, at: destination ?? source))
    }

    private func file(_ path: CString, _ content: UnsafeRawBufferPointer) -> MountRequest {
        var request = MountRequest(kind: .file, source: path, destination: path)
        request.isDirectory = false
        request.content = content
        return request
    }

    private mutating func appendHome(
        _ host: UnsafePointer<UnsafeMutablePointer<CChar>?>, _ directory: CString?
    ) {
        guard let entry = ContainerEnvironment.find(c("HOME"), 4, in: host), entry[5] == slash else { return }
        let home = cleaned(entry + 5, in: nil)
        // A daemon's account may live in /usr or /var/www: what is the image's stays the image's.
        if isSystemPath(home) { return }
        var status = stat()
        guard stat(home, &status) == 0, status.st_mode & S_IFMT == S_IFDIR, access(home, X_OK) == 0 else { return }
        if !isInside(home, c("/tmp")) { append(MountRequest(source: home, destination: home, isOptional: true)) }
        // Sites have links in the paths of homes. Who stands below HOME as it is typed knows that there are none.
        if let directory, isInside(directory, home) { return }
        guard let real = realPath(home), !isEqual(real, home), !isSystemPath(real), !isInside(real, c("/tmp")) else {
            return
        }
        append(MountRequest(source: real, destination: real, isOptional: true))
    }

    /// The current directory by the name that the shell knows it by, PWD, where that has links in it.
    private mutating func appendTypedDirectory(
        _ host: UnsafePointer<UnsafeMutablePointer<CChar>?>, _ directory: CString?
    ) {
        guard let directory, let entry = ContainerEnvironment.find(c("PWD"), 3, in: host), entry[4] == slash else {
            return
        }
        let typed = entry + 4
        if isEqual(typed, directory) { return }
        let path = cleaned(typed, in: nil)
        var here = stat()
        var there = stat()
        guard !isSystemPath(path), stat(directory, &here) == 0, stat(path, &there) == 0,
            here.st_dev == there.st_dev, here.st_ino == there.st_ino
        else { return }
        appendOwn(path)
    }

    /// Where programs put their temporary files: a batch system's own directory of the job.
    private mutating func appendTemporarySpaces(_ host: UnsafePointer<UnsafeMutablePointer<CChar>?>) {
        for name: StaticString in ["TMPDIR", "TMP", "TEMP", "TEMPDIR"] {
            let length = name.utf8CodeUnitCount
            guard let entry = ContainerEnvironment.find(c(name), length, in: host), entry[length + 1] == slash else {
                continue
            }
            let path = cleaned(entry + length + 1, in: nil)
            var status = stat()
            guard !isSystemPath(path), stat(path, &status) == 0, status.st_mode & S_IFMT == S_IFDIR else { continue }
            appendOwn(path)
            // A link in what is shown may lead out of it.
            if isEqual(path, "/tmp") { continue }
            if let real = realPath(path), !isEqual(real, path), !isSystemPath(real) { appendOwn(real) }
        }
    }

    /// A directory of the caller's at its own path, unless it is shown already.
    private mutating func appendOwn(_ path: CString) {
        if enclosing(path, before: count) != nil || covers(path) { return }
        append(MountRequest(source: path, destination: path, isOptional: true))
    }

    /// `path` without links, nil when it cannot be entered.
    private func realPath(_ path: CString) -> CString? {
        let directory = open(path, PathFlags.path | O_DIRECTORY | O_CLOEXEC)
        guard directory >= 0 else { return nil }
        defer { close(directory) }
        var link = ByteBuffer(capacity: 40)
        link.append("/proc/self/fd/")
        link.append(decimal: UInt64(directory))
        let target = UnsafeMutablePointer<CChar>.allocate(capacity: 4096)
        let length = readlink(link.cString, target, 4095)
        guard length > 0 else { return nil }
        target[length] = 0
        return CString(target)
    }

    /// Slurm's PMIx plugin keeps what the ranks read in a directory of the step's; without it they say so in
    /// capitals and ask its daemon for every word.
    private mutating func appendLauncherDirectory(_ host: UnsafePointer<UnsafeMutablePointer<CChar>?>) {
        guard let entry = ContainerEnvironment.find(c("PMIX_SERVER_TMPDIR"), 18, in: host), entry[19] == slash else {
            return
        }
        let path = cleaned(entry + 19, in: nil)
        if isEqual(path, "/") || isInside(path, c("/tmp")) { return }
        append(MountRequest(source: path, destination: path, isOptional: true))
    }

    private mutating func appendDirectory(_ directory: CString?) {
        guard let directory, !isSystemPath(directory), enclosing(directory, before: count) == nil, !covers(directory)
        else { return }
        append(MountRequest(source: directory, destination: directory, isOptional: true))
    }

    /// - Parameter hasAccounts: whether the accounts that the plan prepared for the caller are shown.
    private mutating func appendPlanned(
        _ plan: LaunchPlanReader, _ directory: CString?, hasAccounts: Bool
    ) throws(LaunchFailure) {
        var source: CString?
        var destination: CString?
        var failure: LaunchFailure?
        plan.forEach { record in
            switch record.tag {
            case .bind:
                do throws(LaunchFailure) { try append(BindText(record.cString, in: directory)) } catch {
                    failure = failure ?? error
                }
            case .mountSource: source = record.cString
            case .mountDestination, .fileDestination: destination = cleaned(record.cString, in: c("/"))
            case .mountFlags:
                guard let from = source, let to = destination else { return }
                let flags = record.number
                var request = MountRequest(source: from, destination: to)
                request.kind =
                    flags & 4 != 0 ? .temporary : flags & 32 != 0 ? .stack : flags & 128 != 0 ? .image : .bind
                request.origin = flags & 16 != 0 ? .user : .plan
                request.isReadOnly = flags & 1 != 0
                request.isOptional = flags & 2 != 0
                request.isNotExecutable = flags & 8 != 0
                request.isWithoutSubmounts = flags & 64 != 0
                if request.origin == .user {
                    do throws(LaunchFailure) { try refuseProtected(request) } catch { failure = failure ?? error }
                }
                append(request)
            case .fileContent:
                guard let to = destination, hasAccounts || !isEqual(to, "/etc/passwd") && !isEqual(to, "/etc/group")
                else { return }
                var request = MountRequest(source: to, destination: to)
                request.kind = .file
                request.origin = .plan
                request.isDirectory = false
                request.content = record.payload
                append(request)
            default: break
            }
        }
        if let failure { throw failure }
    }

    /// A plan's file is bound over what the image has, unless the launch owns the directory it is in.
    func mustStage(_ index: Int) -> Bool {
        if let outer = enclosing(requests[index].destination, before: index) {
            return requests[outer].kind != .temporary
        }
        return true
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
