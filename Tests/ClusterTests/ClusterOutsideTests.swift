import Foundation
import LinuxSystem
import TestSupport
import Testing

/// What the caller outside a cluster sees of its jobs, and of clusters in clusters.
@Suite(.serialized) struct ClusterOutsideTests {
    let fixture: JobFixture
    /// Nodes show the home directory: records of jobs inside are seen outside.
    init() throws { fixture = try JobFixture(nodes: 1, under: NSHomeDirectory()) }

    private func bash(_ text: String, directory: String = NSHomeDirectory()) throws -> ProgramRun {
        let programs = (fixture.trireme as NSString).deletingLastPathComponent
        return try runProgram(
            ["bash", "-c", "PATH=\(programs):$PATH\n" + text],
            environment: ["XDG_STATE_HOME": fixture.clusters.directory.path], directory: directory, limitSeconds: 120)
    }

    @Test func aJobThatWaitsSaysSo() throws {
        let run = try bash(
            """
            e=$(mktemp); inside() { trireme cluster exec \(JobFixture.name) -- "$@"; }
            inside sbatch -Q -N 1 --exclusive -o /dev/null --wrap 'sleep 300'
            for i in $(seq 100); do [ "$(inside squeue -h -o %t)" = R ] && break; sleep 0.1; done
            trireme run --cluster \(JobFixture.name) -n 1 \(JobFixture.mpich) echo ran 2>$e & job=$!
            for i in $(seq 300); do grep -q queued $e && break; sleep 0.1; done
            inside scancel -u "$(inside id -un)" --state=RUNNING; wait $job; echo "ended $?"; cat $e; rm $e
            # One that begins at once says nothing.
            trireme run --cluster \(JobFixture.name) -n 1 \(JobFixture.mpich) sleep 4 2>&1
            """)
        #expect(run.lines.prefix(2) == ["ran", "ended 0"], "\(run.outputText)\(run.errorText)")
        #expect(
            run.lines.dropFirst(2).map { String($0.prefix(57)) }
                == ["trireme: queued: waiting for nodes of cluster '\(JobFixture.name)' (tri"].map {
                    String($0.prefix(57))
                },
            "\(run.outputText)\(run.errorText)")
    }

    @Test func aDirectoryThatTheNodesLackIsSaid() throws {
        let elsewhere = try TemporaryDirectory()
        let run = try bash(
            "trireme run --cluster \(JobFixture.name) -n 1 --launcher direct \(JobFixture.mpich) pwd",
            directory: elsewhere.path)
        #expect(run.status == 0 && run.lines == [NSHomeDirectory()], "\(run.outputText)\(run.errorText)")
        #expect(
            run.errorText.contains("nodes of cluster '\(JobFixture.name)' do not show \(elsewhere.path)")
                && run.errorText.contains("--bind \(elsewhere.path)"), "\(run.errorText)")
        let quiet = try bash(
            "trireme run -q --cluster \(JobFixture.name) -n 1 --launcher direct \(JobFixture.mpich) true",
            directory: elsewhere.path)
        #expect(quiet.status == 0 && quiet.errorText.isEmpty, "\(quiet.errorText)")
    }

    @Test func itsJobsAreReachedFromOutside() throws {
        let run = try bash(
            """
            o=$(mktemp)
            trireme run --cluster \(JobFixture.name) -n 2 --launcher direct \(JobFixture.mpich) \\
                sh -c 'echo up; exec sleep 300' >$o & job=$!
            for i in $(seq 300); do [ "$(grep -c up $o)" = 2 ] && break; sleep 0.1; done
            id=$(trireme ps -q)
            trireme job kvs get $id FINISH
            trireme job kvs ls $id | grep -c READY
            trireme job suspend $id >/dev/null && trireme job resume $id >/dev/null && echo answered
            trireme job cancel $id >/dev/null; wait $job; echo "ended $?"; rm $o
            trireme job show $id | awk '$2 == "leader" { print $3 }'
            """)
        #expect(
            run.lines == ["FALSE", "1", "answered", "ended 143", "empty"], "\(run.outputText)\(run.errorText)")
    }

    /// Enforced by the control groups that are delegated where the cluster was made, or refused with the reason.
    @Test func aMemoryLimitHolds() throws {
        let isDelegated = CgroupTree.current().legacy("memory")?.directory.map { access($0, W_OK) == 0 } ?? false
        let eat = "head -c 200000000 /dev/zero | tail | wc -c"
        let run = try bash(
            "trireme run --cluster \(JobFixture.name) -n 1 --mem 64 --launcher direct \(JobFixture.mpich) sh -c '\(eat)'"
        )
        if isDelegated {
            #expect(run.errorText.contains("memory limit 64 MiB") && run.lines == ["0"], "\(run.errorText)")
        } else {
            #expect(run.status == 125 && run.errorText.contains("[limit-refused]"), "\(run.errorText)")
            #expect(run.errorText.contains("nodes of cluster '\(JobFixture.name)'"), "\(run.errorText)")
        }
        let fits = try bash(
            "trireme run --cluster \(JobFixture.name) -n 1 --limits best-effort --mem 640 --launcher direct "
                + "\(JobFixture.mpich) sh -c '\(eat)'")
        #expect(fits.status == 0 && fits.lines == ["200000000"], "\(fits.errorText)")
    }

    @Test func oneInsideAnotherGoesFromOutsideOnceThatIsGone() throws {
        let run = try bash(
            """
            trireme cluster exec \(JobFixture.name) n1 -- $(command -v trireme) cluster create inner --nodes 1 \\
                --image trireme-node >/dev/null || exit
            trireme cluster ls | awk '$1 == "inner"' | grep -o "on n1 of cluster '\(JobFixture.name)'"
            trireme cluster delete inner 2>&1 | grep -o 'trireme cluster exec \(JobFixture.name) n1 -- trireme cluster delete inner'
            trireme cluster delete \(JobFixture.name) 2>/dev/null; echo "outer $?"
            trireme cluster delete inner 2>/dev/null; echo "inner $?"
            trireme cluster ls -q
            """)
        #expect(
            run.lines == [
                "on n1 of cluster '\(JobFixture.name)'",
                "trireme cluster exec \(JobFixture.name) n1 -- trireme cluster delete inner", "outer 0", "inner 0",
            ], "\(run.outputText)\(run.errorText)")
    }
}

/// `clean --all` while a cluster runs from an image of the store that goes.
@Suite struct CleanClusterTests {
    @Test func aRunningClusterEndsWithTheStore() throws {
        let directory = try TemporaryDirectory()
        let images = try #require(ProcessInfo.processInfo.environment["TRIREME_TEST_IMAGES"])
        let environment = [
            "XDG_STATE_HOME": directory.path + "/state", "TRIREME_STORE": directory.path + "/store",
            "TRIREME_TMPDIR": directory.path,
        ]
        func trireme(_ words: String...) throws -> ProgramRun {
            try runProgram([try Programs.path("trireme")] + words, environment: environment, limitSeconds: 200)
        }
        // An image of its own: other clusters of this machine may run from the tests' one.
        let made = try runProgram(
            [
                "sh", "-ec",
                """
                skopeo copy -q docker-archive:\(images)/node.tar oci:layout:node
                umoci config --image layout:node --config.label of=CleanClusterTests
                skopeo copy -q oci:layout:node oci-archive:node.tar:trireme-node
                """,
            ], directory: directory.path)
        try #require(made.status == 0, "\(made.errorText)")
        try #require(try trireme("load", "-i", directory.path + "/node.tar").status == 0)
        defer { _ = try? trireme("cluster", "delete", "doomed") }
        let created = try trireme("cluster", "create", "doomed", "--nodes", "1")
        try #require(created.status == 0, "\(created.errorText)")
        // Its image is in use, and prune leaves it alone.
        #expect(try trireme("image", "prune", "--all").outputText.isEmpty)
        let run = try trireme("clean", "--all")
        #expect(run.status == 0 && run.outputText.contains("removed cluster doomed"), "\(run.errorText)")
        #expect(!FileManager.default.fileExists(atPath: directory.path + "/store"))
        #expect(!FileManager.default.fileExists(atPath: directory.path + "/state/trireme"))
    }
}
