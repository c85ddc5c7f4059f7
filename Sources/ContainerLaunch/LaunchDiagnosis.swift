import CLinux
import Glibc

/// A launch failure in the words of a `Diagnostic`: `trireme: SUBJECT: reason: cause [code]`
/// and a `hint:` line, written without `String` so that the launcher needs none.
package struct LaunchDiagnosis {
    let failure: LaunchFailure
    let image: CString

    package init(_ failure: LaunchFailure, image: CString) {
        self.failure = failure
        self.image = image
    }

    /// Writes it on standard error and returns the exit status.
    package func report() -> Int32 {
        var text = ByteBuffer(capacity: 1024)
        render(to: &text)
        var done = 0
        while done < text.count {
            let n = write(2, text.bytes + done, text.count - done)
            if n < 0, errno == EINTR { continue }
            if n <= 0 { break }
            done += n
        }
        return failure.exitStatus
    }

    /// Writes a line of ours on standard error.
    static func say(_ text: String) {
        Array(text.utf8).withUnsafeBytes { _ = write(2, $0.baseAddress, $0.count) }
    }

    /// The text, for callers that carry it elsewhere.
    package var text: [UInt8] {
        var buffer = ByteBuffer(capacity: 1024)
        render(to: &buffer)
        return Array(UnsafeRawBufferPointer(start: buffer.bytes, count: buffer.count))
    }

    private func render(to text: inout ByteBuffer) {
        let words = self.words
        text.append("trireme: ")
        text.append(words.subject ?? failure.subject)
        text.append(": ")
        if let reason = words.reason {
            text.append(reason)
            if let more = words.more { text.append(more) }
        }
        if words.namesErrno {
            if words.reason != nil { text.append(": ") }
            appendError(to: &text)
        }
        text.append(" [")
        text.append(words.code)
        text.append("]\n")
        if let hint = words.hint {
            text.append("  hint: ")
            text.append(hint)
            text.append("\n")
        }
    }

    /// strerror(3) in lower case, as in every message of ours.
    private func appendError(to text: inout ByteBuffer) {
        guard let message = strerror(failure.errno) else { return }
        let first = message[0]
        text.append(first >= 0x41 && first <= 0x5A ? first + 0x20 : first)
        text.append(CString(message) + 1)
    }

    struct Words {
        var code: StaticString
        var subject: CString?
        var reason: StaticString?
        var more: CString?
        var namesErrno = true
        var hint: StaticString?
    }

    private var words: Words {
        if failure.errno == ENOSYS, let old = oldKernelWords { return old }
        return switch failure.step {
        case .parseCommandLine: commandLineWords
        case .readPlan:
            Words(
                code: "plan-damaged", reason: "its launch plan cannot be used", namesErrno: failure.errno != EBADMSG,
                hint: "load the image again: trireme load -i FILE")
        case .connectToAgent, .joinAgent:
            Words(
                code: "agent-unreachable",
                reason: failure.detail == nil
                    ? "cannot join the job's container on this node" : "cannot join the job's container on this node: ",
                more: failure.detail, namesErrno: failure.detail == nil,
                hint: "is the job still running here? squeue")
        case .openImage, .serveImage, .joinImage, .unpackImage: singleFileWords
        case .createNamespaces, .mapIdentity: namespaceWords
        case .openSource: sourceWords
        case .mountRoot: rootWords
        case .mountOverlay: overlayWords
        case .enterRoot:
            Words(
                code: "root-refused", subject: image, reason: "cannot make the image the root directory",
                hint: "trireme doctor")
        case .makeMountPoint, .attachMount, .writeFile: mountWords
        case .sealRoot:
            Words(
                code: "root-refused", subject: image, reason: "cannot make the root read-only",
                hint: "trireme doctor")
        case .mountSystem:
            Words(
                code: "proc-refused", reason: "cannot be mounted anew for this container",
                hint: failure.errno == EPERM
                    ? "an outer container covers parts of /proc: --share pid (trireme explain proc-refused)"
                    : "trireme doctor")
        case .maskSystem:
            Words(code: "mask-refused", reason: "cannot be covered or made read-only", hint: "trireme doctor")
        case .filterCalls:
            Words(
                code: "seccomp-refused", reason: "the kernel takes no filter of system calls",
                hint: "--seccomp off runs without it (trireme explain seccomp-refused)")
        case .enterDirectory:
            Words(
                code: "workdir-missing", reason: "cannot start in this directory of the container",
                hint: "choose another with -w DIR")
        case .dropPrivileges:
            Words(code: "privileges-kept", reason: "cannot give up privileges", hint: "trireme doctor")
        case .makeTerminal:
            Words(
                code: "terminal-refused", reason: "cannot make a terminal for the container",
                hint: "leave out -t: the command then has the caller's terminal")
        case .findCommand: notFoundWords
        case .execute: notExecutableWords
        case .applyLimits:
            limitWords
        case .handOver:
            Words(
                code: "installation-incomplete", reason: "cannot start the rest of trireme",
                hint: "trireme, -cli, -agent and -mount belong in one directory: make install PREFIX=DIR")
        }
    }

    private var singleFileWords: Words {
        var words = Words(code: "image-file-unusable", hint: "trireme image inspect FILE")
        switch failure.step {
        case .openImage: words.reason = "cannot be opened as an image"
        case .joinImage:
            words.reason = "cannot join the process that serves it on this node"
            words.hint = "try again: the next launch starts a new one"
        case .unpackImage: words.reason = "cannot be unpacked on this node"
        default: words.reason = "cannot be served on this node"
        }
        guard let detail = failure.detail else { return words }
        words.reason =
            failure.step == .unpackImage ? "cannot be unpacked on this node: " : "cannot be served on this node: "
        words.more = detail
        words.namesErrno = false
        if failure.step == .joinImage { words.hint = "end that process (trireme explain image-file-unusable)" }
        return words
    }

    private var commandLineWords: Words {
        var words = Words(code: "usage", reason: "not understood", namesErrno: false, hint: "trireme help run")
        guard let option = failure.detail else { return words }
        if isEqual(option, "--bind") || strstr(option, c("_BIND")) != nil {
            words.reason = "not a bind, from "
            words.more = option
            words.hint = "write -B SRC[:DST[:ro]] with an absolute DST; \\: for a colon in a name"
        } else if isEqual(option, "bind option") {
            words.reason = "not an option of a bind"
            words.hint = "one of ro, rw, noexec, bind, rbind, optional; mounts are never shared with the host"
        } else if isEqual(option, "--env") {
            words.reason = "not a variable"
            words.hint = "write -e NAME=VALUE, or -e NAME for the value it has here"
        } else if isEqual(option, "--user") {
            words.code = "image-user-unknown"
            words.reason = "the image's USER is not in its own /etc/passwd or /etc/group"
            words.hint = "leave out --user image: the command then runs under your own uid and gid"
        } else if isEqual(option, "CMD") {
            words.code = "command-missing"
            words.reason = "the image names no command, and none was given"
            words.hint = "trireme run IMAGE CMD [ARG…], or: trireme shell IMAGE"
        }
        return words
    }

    private var limitWords: Words {
        var words = Words(
            code: "limit-refused", reason: "this limit cannot be enforced here: ", more: failure.detail,
            namesErrno: false,
            hint: "leave it to the batch system (srun -c), or take --limits best-effort; trireme doctor")
        if hasPrefix(failure.subject, "--memory") {
            words.hint =
                "leave it to the batch system (srun --mem), limit each process (--ulimit as=BYTES), or --limits best-effort"
        } else if hasPrefix(failure.subject, "--cpuset") {
            words.hint = "choose among the processors allowed here: taskset -cp $$"
        } else if hasPrefix(failure.subject, "--ulimit") {
            words.hint = "stay within 'ulimit -H -a', or have the administrator raise it (limits.conf(5))"
        }
        return words
    }

    private var rootWords: Words {
        var words = Words(code: "root-refused", reason: "cannot mount the image", hint: "trireme doctor")
        switch failure.errno {
        case ENOENT:
            words.code = "layer-missing"
            words.reason = "a layer of the image is missing in the store"
            words.hint = "load the image again: trireme load -i FILE"
        case ENODEV:
            words.reason = "this kernel has no overlay file system"
            words.hint = "ask the administrator for the kernel module 'overlay'"
        case EPERM, EACCES:
            // AppArmor lets the namespace be made and then denies what it is for.
            if let restricted = namespaceRestriction(afterNamespace: true) { return restricted }
            words.hint = "unprivileged overlay mounts need Linux 5.11 or newer"
        case EINVAL:
            words.hint =
                "is it on a file system that cannot be a layer (another container's root, FUSE)? trireme doctor"
        default: break
        }
        return words
    }

    private var notFoundWords: Words {
        var words = Words(code: "command-not-found", namesErrno: false)
        if let path = failure.detail {
            words.reason = "not found in the container's PATH, "
            words.more = path
        } else {
            words.reason = "no such file in the container"
        }
        words.hint = "trireme shell IMAGE shows what is there"
        return words
    }

    private var notExecutableWords: Words {
        var words = Words(code: "command-not-executable", hint: "trireme shell IMAGE shows what is there")
        if let why = failure.detail {
            words.reason = "found, but it cannot be executed: "
            words.more = why
            words.namesErrno = false
            if strstr(why, c(", this host is ")) != nil {
                words.code = "wrong-architecture"
                words.hint = "load the image for this host's architecture"
            }
        } else {
            words.reason = "found, but it cannot be executed"
        }
        return words
    }

    // MARK: why there are no user namespaces

    private var namespaceWords: Words {
        if let restricted = namespaceRestriction(afterNamespace: false) { return restricted }
        var words = Words(code: "no-user-namespaces", subject: image, reason: "cannot make a user namespace")
        if failure.step == .mapIdentity, isEqual(failure.subject, "newuidmap") {
            words.code = "subordinate-ids"
            words.reason = "newuidmap or newgidmap could not map the subordinate ids of --fakeroot"
            words.namesErrno = false
            words.hint = "--fakeroot-single needs none; or ask for lines in /etc/subuid and /etc/subgid"
            return words
        }
        if failure.step == .mapIdentity, failure.errno == EPERM, failure.detail != nil {
            words.reason = "uid 0 without the capability CAP_SETFCAP cannot be shown in a further user namespace"
            words.hint = "start the outer container as an ordinary user to run one inside it"
            return words
        }
        words.hint = "trireme doctor"
        switch failure.errno {
        case EPERM: words.hint = "a chroot or a security policy forbids it: run outside of it, or ask the administrator"
        case EINVAL: words.hint = "this kernel was built without user namespaces (CONFIG_USER_NS)"
        default: break
        }
        return words
    }

    func namespaceRestriction(afterNamespace: Bool) -> Words? {
        var words = Words(code: "no-user-namespaces", subject: image, namesErrno: false)
        if number(in: "/proc/sys/kernel/apparmor_restrict_unprivileged_userns") == 1, failure.errno != ENOSPC {
            words.reason = "AppArmor forbids user namespaces here (kernel.apparmor_restrict_unprivileged_userns = 1)"
            words.hint = "as root: sysctl -w kernel.apparmor_restrict_unprivileged_userns=0, or a profile for trireme"
            return words
        }
        if afterNamespace { return nil }
        if number(in: "/proc/sys/kernel/unprivileged_userns_clone") == 0 {
            words.reason = "user namespaces are switched off (kernel.unprivileged_userns_clone = 0)"
            words.hint = "as root: sysctl -w kernel.unprivileged_userns_clone=1"
            return words
        }
        if number(in: "/proc/sys/user/max_user_namespaces") == 0 {
            words.reason = "user namespaces are switched off (user.max_user_namespaces = 0)"
            words.hint = "as root: sysctl -w user.max_user_namespaces=65536"
            return words
        }
        guard failure.errno == ENOSPC else { return nil }
        words.reason =
            "a limit of namespaces is reached (user.max_user_namespaces, user.max_mnt_namespaces, or 32 nested ones)"
        words.hint = "end other containers, or as root: sysctl -w user.max_user_namespaces=65536"
        return words
    }

    private func number(in path: StaticString) -> Int? {
        let file = open(c(path), O_RDONLY | O_CLOEXEC)
        guard file >= 0 else { return nil }
        defer { close(file) }
        var digits: (UInt64, UInt64, UInt64) = (0, 0, 0)
        return withUnsafeMutableBytes(of: &digits) { raw in
            guard read(file, raw.baseAddress, raw.count - 1) > 0 else { return nil }
            return atoi(raw.baseAddress!.assumingMemoryBound(to: CChar.self)).asInt
        }
    }
}

extension Int32 {
    fileprivate var asInt: Int { Int(self) }
}
