import Foundation
import TestSupport
import Testing

/// What users of docker, apptainer and Slurm type by habit works, or is refused with the reason.
@Suite(.serialized) struct RunHabitsTests {
    let store: HandmadeStore

    init() throws { store = try HandmadeStore() }

    private func run(_ options: [String]) throws -> ProgramRun {
        try runProgram(
            [try Programs.path("trireme"), "run"] + options + ["prepared", "probe", "argv", "up"],
            environment: ["TRIREME_STORE": store.path, "HOME": store.home], directory: store.home)
    }

    @Test(arguments: [
        ["-u", "\(geteuid()):\(getegid())"], ["-u\(geteuid())"], ["--user=\(geteuid())"],
        ["--fakeroot-single", "-u", "0:0"], ["--user", "root", "--fakeroot-single"], ["--ipc=host"], ["--net", "host"],
        ["--net=host"], ["--pid=host"], ["--uts=host"], ["--userns=host"], ["--cap-drop=ALL"], ["--cap-drop", "ALL"],
        ["--security-opt", "no-new-privileges"], ["--rm", "--net=host"], ["--rm", "--cpuset-cpus", "0"],
        ["--cpuset-cpus", "0", "--rm"], ["--rm=true", "--cleanenv"],
    ])
    func whatHoldsIsTaken(_ options: [String]) throws {
        let run = try run(options)
        #expect(run.status == 0 && run.lines.contains { $0.contains("up") }, "\(options): \(run.errorText)")
    }

    @Test(arguments: [
        (["-p", "8080:80"], "network"), (["-p8080:80"], "network"), (["--cap-add", "SYS_PTRACE"], "right"),
        (["--privileged"], "right"), (["-u", "4294967294"], "caller"), (["--user=nobody"], "caller"),
        (["--user", "\(geteuid())", "--fakeroot-single"], "caller"), (["--nodelist", "n2"], "batch system"),
        (["--net=bridge"], "root"), (["--ipc=container:x"], "namespace"), (["--pty"], "-it"),
        (["--fakeroot-single", "--cap-drop", "ALL"], "package managers"),
        (["-w", "n2"], "salloc"), (["-t", "10"], "--time"), (["--add-host", "a:1.2.3.4"], "/etc/hosts"),
        (["--platform", "linux/s390x"], "processor"), (["--group-add", "4294967294"], "groups"),
    ])
    func whatCannotBeHadIsRefusedWithTheReason(_ options: [String], _ reason: String) throws {
        let run = try run(options)
        #expect(run.status != 0 && run.lines.isEmpty, "\(options): \(run.lines)")
        #expect(run.errorText.contains(reason) && run.errorText.contains("option-value"), "\(run.errorText)")
    }

    /// The plan names ranks and nodes, which `-n2` and `-n 2` give alike.
    /// `trireme run … program *.dat` in a large directory; as many words took minutes once.
    @Test func wordsOfTheApplicationCostNothing() throws {
        let words = (0..<30_000).map { "f\($0)" }
        let run = try runProgram(
            [try Programs.path("trireme"), "run", "--fakeroot-single", "prepared", "probe", "argv"] + words,
            environment: ["TRIREME_STORE": store.path, "HOME": store.home], directory: store.home, limitSeconds: 30)
        #expect(run.status == 0 && run.outputText.contains("f29999"), "\(run.errorText)")
    }

    @Test func valuesMayBeAttachedToShortOptions() throws {
        let apart = try run(["--dry-run", "-m", "512m", "-n", "2", "-N", "1", "-c", "1"])
        let attached = try run(["--dry-run", "-m512m", "-n2", "-N1", "-c1"])
        #expect(apart.status == 0, "\(apart.errorText)")
        #expect(attached.status == 0, "\(attached.errorText)")
        #expect(!attached.lines.isEmpty && attached.lines == apart.lines)
    }
}
