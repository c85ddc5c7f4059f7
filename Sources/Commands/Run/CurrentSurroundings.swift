import CLinux
import Glibc
import LinuxSystem
import NodeAgent
import ResourceManagers

/// The caller's PATH.
enum SearchPath {
    /// Whether a program called `name` is in it.
    static func has(_ name: String) -> Bool {
        let path = getenv("PATH").map { String(cString: $0) } ?? "/usr/bin:/bin"
        return path.split(separator: ":").contains { access("\($0)/\(name)", X_OK) == 0 }
    }
}

extension Surroundings {
    /// This process's environment, this machine's files and commands.
    static var current: Surroundings {
        Surroundings(
            environment: { name in getenv(name).map { String(cString: $0) } },
            file: { path in
                guard let file = try? OwnedDescriptor.open(path, O_RDONLY), let bytes = try? file.readAll() else {
                    return nil
                }
                return String(decoding: bytes, as: UTF8.self)
            },
            output: { words in printed(by: words) }, now: { time(nil) },
            runNumber: { RunNumber.value })
    }

    /// What a command prints within ten seconds; nil when it fails.
    private static func printed(by words: [String]) -> String? {
        var ends: [Int32] = [-1, -1]
        guard linux_pipe2(&ends, O_CLOEXEC) == 0 else { return nil }
        let source = OwnedDescriptor(owning: ends[0])
        let null = open("/dev/null", O_RDWR | O_CLOEXEC)
        defer { close(null) }
        let pid = try? Spawn.start(
            words.map { Array($0.utf8) }, environment: EnvironmentBlock.forCommands(),
            streams: .init(input: null, output: ends[1], error: null))
        close(ends[1])
        guard let pid else { return nil }
        var said: [UInt8] = []
        let deadline = MonotonicTime.now() + 10_000
        var chunk = [UInt8](repeating: 0, count: 4096)
        while said.count < 1 << 20 {
            var slot = pollfd(fd: source.raw, events: Int16(POLLIN), revents: 0)
            guard poll(&slot, 1, Int32(max(0, deadline - MonotonicTime.now()))) > 0 else {
                kill(pid, SIGKILL)
                break
            }
            let count = read(source.raw, &chunk, chunk.count)
            if count <= 0 { break }
            said += chunk[..<count]
        }
        var status: Int32 = 0
        while waitpid(pid, &status, 0) < 0, errno == EINTR {}
        guard linux_status_exited(status) != 0, linux_status_exit_code(status) == 0 else { return nil }
        return String(decoding: said, as: UTF8.self)
    }
}

/// How many parallel runs the job's script has come to on this node: a byte per run in a file of the job's own
/// directory here. Every node's script counts for itself, so the leader's second run meets the others' second.
enum RunNumber {
    static let value: Int = {
        guard let scratch = getenv("_CONDOR_SCRATCH_DIR").map({ String(cString: $0) }) else { return 1 }
        // In a directory: HTCondor carries new files home, but no new directories.
        mkdir(scratch + "/.trireme", 0o700)
        guard
            let file = try? OwnedDescriptor.open(scratch + "/.trireme/runs", O_WRONLY | O_CREAT | O_APPEND, mode: 0o600)
        else { return 1 }
        _ = "+".withCString { write(file.raw, $0, 1) }
        return max(1, Int(lseek(file.raw, 0, SEEK_END)))
    }()
}

/// This machine's name as its kernel has it (gethostname(2)).
enum HostName {
    static var current: String {
        var name = [CChar](repeating: 0, count: 256)
        gethostname(&name, 255)
        return String(decoding: name.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
    }
}
