import Foundation
import TestSupport

/// A filter of system calls from outside: what an outer container, an old kernel or a security module refuses.
///
/// bubblewrap installs it, so that nothing of it can be taken back by what is started.
struct CallFilter {
    private let place: TemporaryDirectory
    private let file: String

    /// Answers `errno` to the system calls `numbers`, and lets all others through.
    init(refusing numbers: [UInt32], errno: Int32 = 1) throws {
        place = try TemporaryDirectory()
        file = place.path + "/filter"
        // seccomp_data.nr; a comparison for each number; allow; SECCOMP_RET_ERRNO (bpf of seccomp(2)).
        var program: [UInt64] = [0x20]
        for (index, number) in numbers.enumerated() {
            program.append(0x15 | UInt64(numbers.count - index) << 16 | UInt64(number) << 32)
        }
        program += [0x06 | 0x7FFF_0000 << 32, 0x06 | (0x0005_0000 | UInt64(errno)) << 32]
        try program.withUnsafeBytes { Data($0) }.write(to: URL(fileURLWithPath: file))
    }

    /// Runs `words` behind it, `options` being further ones of bwrap(1).
    func run(
        _ words: [String], options: [String] = [], environment: [String: String?] = [:], directory: String? = nil
    ) throws -> ProgramRun {
        try runProgram(
            [
                "sh", "-c", "f=$1; shift; exec bwrap --dev-bind / / --seccomp 9 \"$@\" 9<\"$f\"", "sh", file,
            ] + options + ["--"] + words, environment: environment, directory: directory, limitSeconds: 120)
    }

    // Of the generic table where two numbers are given for one name: x86_64 has its own of old calls.
    #if arch(x86_64)
        static let mount: UInt32 = 165
        static let unshare: UInt32 = 272
        static let seccomp: UInt32 = 317
        static let readv: UInt32 = 310
        static let mknodat: UInt32 = 259
        static let mkdirat: UInt32 = 258
        static let mkdir: UInt32 = 83
        static let lsetxattr: UInt32 = 189
        static let prctl: UInt32 = 157
    #else
        static let mount: UInt32 = 40
        static let unshare: UInt32 = 97
        static let seccomp: UInt32 = 277
        static let readv: UInt32 = 270
        static let mknodat: UInt32 = 33
        static let mkdirat: UInt32 = 34
        static let mkdir: UInt32 = 34
        static let lsetxattr: UInt32 = 6
        static let prctl: UInt32 = 167
    #endif
    static let openTree: UInt32 = 428
    static let moveMount: UInt32 = 429
    static let mountSetattr: UInt32 = 442
}
