import Foundation
import Glibc
import TestSupport
import Testing

/// What a plain start may cost, counted: time cannot be tested on a busy machine, and these are what it is made of.
@Suite struct RunCostTests {
    let store: HandmadeStore

    init() throws { store = try HandmadeStore() }

    static let canTrace: Bool = {
        (try? runProgram(["strace", "-o", "/dev/null", "true"]))?.status == 0
    }()

    @Test("System calls of a plain start", .enabled(if: canTrace, "strace is missing or may not trace"))
    func systemCalls() throws {
        let trace = store.path + "/trace"
        let run = try runProgram(
            ["strace", "-f", "-o", trace, try Programs.path("trireme"), "run", "prepared", "/bin/probe", "exit", "0"],
            environment: ["TRIREME_STORE": store.path, "HOME": store.home], directory: store.home)
        #expect(run.status == 0, "\(run.errorText)")
        let calls = try String(contentsOfFile: trace, encoding: .utf8).split(separator: "\n").map(String.init)
        // Its words cannot be read: by then the launcher is closed to strace, too.
        let last = try #require(calls.lastIndex { $0.contains(" execve(") })
        #expect(last > 10)
        let launch = calls[..<last].filter { !$0.contains("PR_CAPBSET_DROP") }
        #expect(launch.count <= 125, "\(launch.joined(separator: "\n"))")
        // One process, which becomes the application.
        #expect(Set(calls.map { $0.prefix { $0 != " " } }).count == 1)
        // Every mount is one copy and one move; the root, its seal and the caller's own directories are one call each.
        #expect(launch.count { $0.contains(" mount(") || $0.contains(" mount_setattr(") } <= 5)
        #expect(launch.count { $0.contains(" open_tree(") } <= 10)
        // There are no constructors of Swift's runtime: they would look for a backtracer and read the map of the process.
        #expect(!launch.contains { $0.contains("swift-backtrace") || $0.contains("/proc/self/maps") })
    }

    @Test("Pages a plain start touches, beyond the application's own")
    func pages() throws {
        let launched = try faults([try Programs.path("trireme"), "run", "prepared", "/bin/probe", "exit", "0"])
        let alone = try faults([store.directory.path + "/probe", "exit", "0"])
        // 50 when written. One use of a generic type or of a protocol conformance adds twelve to thirty.
        #expect(launched - alone < 75)
    }

    /// Minor page faults of one run, the least of five.
    private func faults(_ arguments: [String]) throws -> Int {
        var words = arguments.map { strdup($0) } + [nil]
        defer { for word in words { free(word) } }
        let entries = ["TRIREME_STORE=\(store.path)", "HOME=\(store.home)", "PATH=/usr/bin:/bin"]
        var environment = entries.map { strdup($0) } + [nil]
        defer { for entry in environment { free(entry) } }
        var least = Int.max
        for _ in 0..<5 {
            var child: pid_t = 0
            try #require(posix_spawn(&child, arguments[0], nil, nil, &words, &environment) == 0)
            var status: Int32 = 0
            var usage = rusage()
            try #require(wait4(child, &status, 0, &usage) == child)
            try #require(status == 0)
            least = min(least, usage.ru_minflt)
        }
        return least
    }
}
