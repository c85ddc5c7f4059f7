import CLinux
import Glibc
import LinuxSystem
import Synchronization

/// gzip members one after the other, inflated by a process of their own: `trireme-inflate`, which is linked
/// with libisal (twice zlib's speed) and can do nothing but read and write what it shares with this one.
///
/// Its words are in `Sources/InflateServer/main.c`. What it wrote is copied before anyone looks at it, so a
/// process that a hostile stream took over can lie about the plain bytes, whose digest is checked, but not
/// change them between two looks. While one piece is copied the process works on the next.
package final class SealedInflate: ByteStream {
    // As in main.c.
    private enum Layout {
        static let input = 256 << 10
        static let output = 512 << 10
        static let all = input + 2 * output
    }
    private enum Status {
        static let outputFull: UInt32 = 0
        static let wantsInput: UInt32 = 1
        static let betweenMembers: UInt32 = 2
        static let ready: UInt32 = 3
    }
    private struct Reply {
        var status: UInt32 = 0
        var produced: UInt32 = 0
    }

    private let source: any ByteStream
    package let process: pid_t
    private let socket: Int32
    private let memory: UnsafeMutableRawBufferPointer
    /// The piece of output that the answer to come speaks of.
    private var turn = 0
    private var isAsked = false
    private var isFinished = false
    /// What of the last answer's output was not taken yet.
    private var unread = UnsafeMutableRawBufferPointer(start: nil, count: 0)

    /// A start that failed once (no libisal on this host, no seccomp) is not tried for every layer.
    private static let isUnavailable = Atomic<Bool>(false)

    /// The helper beside this program; nil where none is installed. proc(5) `/proc/self/exe`
    package static let installed: String? = {
        var buffer = [UInt8](repeating: 0, count: 4096)
        let n = buffer.withUnsafeMutableBytes {
            readlink("/proc/self/exe", $0.baseAddress!.assumingMemoryBound(to: CChar.self), $0.count)
        }
        guard n > 0, let slash = buffer[..<n].lastIndex(of: UInt8(ascii: "/")) else { return nil }
        let path = String(decoding: buffer[...slash], as: UTF8.self) + "trireme-inflate"
        return access(path, X_OK) == 0 ? path : nil
    }()

    /// Nil when no such process can be had here; `source` is untouched then.
    package init?(_ source: any ByteStream, program: String? = SealedInflate.installed) {
        guard let program, program != SealedInflate.installed || !SealedInflate.isUnavailable.load(ordering: .relaxed),
            let started = SealedInflate.start(program)
        else { return nil }
        self.source = source
        (process, socket, memory) = started
        // A loader that lacks the library ends the process before this; one of another release has another layout.
        let first = try? answer()
        if first?.status != Status.ready || first?.produced != UInt32(Layout.all) {
            if program == SealedInflate.installed { SealedInflate.isUnavailable.store(true, ordering: .relaxed) }
            return nil
        }
    }

    deinit {
        close(socket)
        munmap(memory.baseAddress, memory.count)
        var status: Int32 = 0
        while waitpid(process, &status, 0) < 0, errno == EINTR {}
    }

    private static func start(_ program: String) -> (pid_t, Int32, UnsafeMutableRawBufferPointer)? {
        let closeOnExec: UInt32 = 1  // MFD_CLOEXEC, a macro Swift does not see
        let shared = OwnedDescriptor(owning: linux_memfd_create("inflate", closeOnExec))
        var ends: [Int32] = [-1, -1]
        guard shared.raw > 1, ftruncate(shared.raw, Layout.all) == 0,
            socketpair(AF_UNIX, Int32(SOCK_STREAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue), 0, &ends) == 0
        else { return nil }
        let ours = OwnedDescriptor(owning: ends[0])
        let theirs = OwnedDescriptor(owning: ends[1])
        guard ours.raw > 1, theirs.raw > 1,
            let start = mmap(nil, Layout.all, PROT_READ | PROT_WRITE, MAP_SHARED, shared.raw, 0), start != MAP_FAILED
        else { return nil }
        var actions = posix_spawn_file_actions_t()
        posix_spawn_file_actions_init(&actions)
        defer { posix_spawn_file_actions_destroy(&actions) }
        posix_spawn_file_actions_adddup2(&actions, theirs.raw, 0)
        posix_spawn_file_actions_adddup2(&actions, shared.raw, 1)
        // What the loader has to say of a missing library is answered with zlib.
        posix_spawn_file_actions_addopen(&actions, 2, "/dev/null", O_WRONLY, 0)
        var words: [UnsafeMutablePointer<CChar>?] = [strdup(program), nil]
        // Where a site keeps its libraries is all that it needs to know of this process's surroundings.
        var environment: [UnsafeMutablePointer<CChar>?] = []
        if let path = getenv("LD_LIBRARY_PATH") {
            environment.append(strdup("LD_LIBRARY_PATH=" + String(cString: path)))
        }
        environment.append(nil)
        defer { for word in words + environment { free(word) } }
        var process: pid_t = 0
        guard posix_spawn(&process, program, &actions, nil, &words, &environment) == 0 else {
            munmap(start, Layout.all)
            return nil
        }
        return (process, ours.release(), UnsafeMutableRawBufferPointer(start: start, count: Layout.all))
    }

    package func read(into buffer: UnsafeMutableRawBufferPointer) throws(ArchiveFault) -> Int {
        while unread.isEmpty {
            guard !isFinished else { return 0 }
            if !isAsked { try refill(isEndAllowed: false) }
            let reply = try answer()
            guard reply.status <= Status.betweenMembers, reply.produced <= Layout.output else {
                throw ArchiveFault(.corrupt, "corrupt gzip data: \(SealedInflate.words(reply.status))")
            }
            let piece = Layout.input + turn * Layout.output
            unread = UnsafeMutableRawBufferPointer(rebasing: memory[piece..<piece + Int(reply.produced)])
            turn = 1 - turn
            switch reply.status {
            case Status.outputFull: try ask(0)
            case Status.wantsInput: try refill(isEndAllowed: false)
            default: try refill(isEndAllowed: true)
            }
        }
        let n = min(buffer.count, unread.count)
        buffer.copyMemory(from: UnsafeRawBufferPointer(rebasing: unread[..<n]))
        unread = UnsafeMutableRawBufferPointer(rebasing: unread[n...])
        return n
    }

    private func refill(isEndAllowed: Bool) throws(ArchiveFault) {
        let n = try source.read(into: UnsafeMutableRawBufferPointer(rebasing: memory[..<Layout.input]))
        if n > 0 { return try ask(UInt32(n)) }
        guard isEndAllowed else { throw ArchiveFault(.corrupt, "truncated: gzip data ends in the middle") }
        isFinished = true
    }

    // MARK: The socket

    private func ask(_ given: UInt32) throws(ArchiveFault) {
        var given = given
        // Four bytes into an empty socket are never split.
        guard send(socket, &given, 4, Int32(MSG_NOSIGNAL)) == 4 else { throw gone() }
        isAsked = true
    }

    private func answer() throws(ArchiveFault) -> Reply {
        var reply = Reply()
        let socket = socket
        do throws(SyscallError) {
            let n = try checked("recv") { recv(socket, &reply, MemoryLayout<Reply>.size, Int32(MSG_WAITALL)) }
            guard n == MemoryLayout<Reply>.size else { throw SyscallError("recv", errno: EPIPE) }
        } catch { throw gone() }
        return reply
    }

    /// It ends by itself only when the kernel stops it: a system call it has given up, a fault of memory.
    private func gone() -> ArchiveFault {
        ArchiveFault(.corrupt, "corrupt gzip data: inflating it ended trireme-inflate, the process that did")
    }

    /// zlib's words for the same, where it has some.
    private static func words(_ status: UInt32) -> String {
        switch status {
        case 16: "invalid block"
        case 17: "invalid code"
        case 18: "invalid distance too far back"
        case 19: "incorrect header check"
        case 20: "unknown compression method"
        case 21: "incorrect data check"
        case 22: "unknown header flags set"
        default: "error \(status)"
        }
    }
}
