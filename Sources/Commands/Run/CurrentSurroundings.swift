import Glibc
import LinuxSystem
import Processes
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
        let said = try? CommandOutput.of(
            words, environment: EnvironmentBlock.forCommands(), isQuiet: true, group: .own,
            limit: .init(milliseconds: 10_000, bytes: 1 << 20))
        guard let said, said.status == 0 else { return nil }
        return String(decoding: said.bytes, as: UTF8.self)
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
