import Foundation
import LinuxSystem
import TestSupport
import Testing

/// What is wrong around a job: ports, disks, readers, memory, and other jobs.
@Suite(.serialized) struct JobTroubleTests {
    let fixture: JobFixture
    init() throws { fixture = try JobFixture(nodes: 2) }

    /// The node's route to one port of the leader is taken away; everything else of it works.
    @Test func aBlockedPortIsNamed() throws {
        let port = 23_456
        try fixture.network("n2", ["rule", "add", "pref", "10", "ipproto", "tcp", "dport", "\(port)", "unreachable"])
        defer { try? fixture.network("n2", ["rule", "del", "pref", "10"]) }
        let run = try fixture.run(["-n", "2", "-N", "2", "--port", "\(port)", JobFixture.mpich, "true"])
        #expect(run.status == 125 && run.errorText.contains("[agents-not-started]"), "\(run.errorText)")
        #expect(
            run.errorText.contains(":\(port)") && run.errorText.contains("network is unreachable"), "\(run.errorText)")
        #expect(try fixture.isClean(nodes: ["ctl", "n1", "n2"]), "\((try? fixture.leftovers(["n1", "n2"])) ?? [])")
    }

    @Test func twentyJobsAtOnceOnTheSameNodes() throws {
        let run = try fixture.script(
            """
            salloc -Q -N 2 -n 4 sh -c 'for i in $(seq 20); do
            trireme run -n 2 -N 2 --launcher direct \(JobFixture.mpich) sh -c "echo $i on \\$(hostname)" & done; wait'
            """, limitSeconds: 120)
        let expected = Set((1...20).flatMap { ["\($0) on n1", "\($0) on n2"] })
        #expect(Set(run.lines) == expected && run.lines.count == 40, "\(run.outputText)\(run.errorText)")
        #expect(try fixture.isClean(nodes: ["ctl", "n1", "n2"]), "\((try? fixture.leftovers(["n1", "n2"])) ?? [])")
    }
}

/// The same on this machine alone.
@Suite struct LocalJobTroubleTests {
    let directory: TemporaryDirectory

    init() throws { directory = try TemporaryDirectory() }

    /// `job WORDS` runs them as a job of this machine.
    private func script(_ text: String) throws -> ProgramRun {
        let programs = (try Programs.path("trireme") as NSString).deletingLastPathComponent
        let prelude = """
            export LC_ALL=C PATH=\(programs):$PATH TRIREME_RECORD_OUTPUT=1000
            job() { trireme run --rm local --launcher direct "$@"; }
            mpich=\(JobFixture.mpich)

            """
        return try runProgram(
            ["bash", "-c", prelude + text], environment: ["XDG_STATE_HOME": directory.path],
            directory: directory.path, limitSeconds: 180)
    }

    @Test func aSlowReaderHoldsTheRanksUpAndNothingIsLost() throws {
        let run = try script(
            """
            mkfifo pipe
            # Not the function: it would put a shell between us and the leader.
            trireme run --rm local --launcher direct -n 2 $mpich sh -c 'head -c 40000000 /dev/zero; echo done >&2' \\
                >pipe 2>said & job=$!
            exec 3<pipe
            for i in $(seq 300); do [ "$(trireme ps -q)" ] && break; sleep 0.1; done
            sleep 2
            grep -c done said
            awk '/VmHWM/ { print ($2 < 100000) }' /proc/$job/status
            wc -c <&3
            wait $job; echo "ended $?"; grep -c done said
            """)
        // What ranks wrote waits with them: the leader holds a bounded part of it.
        #expect(run.lines == ["0", "1", "80000000", "ended 0", "2"], "\(run.outputText)\(run.errorText)")
    }

    @Test func aReaderThatLeavesEndsTheJobOnlyWhenToldTo() throws {
        let run = try script(
            """
            { job -n 2 $mpich sh -c 'head -c 1000000 /dev/zero'; echo "status $?" >&2; } 2>&1 >/dev/full | cat
            { job -n 2 $mpich sh -c 'head -c 1000000 /dev/zero'; echo "status $?" >&2; } 2>said | head -c 1 >/dev/null; cat said
            { job -n 2 --pipe-fail $mpich sh -c 'head -c 1000000 /dev/zero; sleep 300'; echo "status $?" >&2; } 2>said | head -c 1 >/dev/null
            cat said
            """)
        #expect(
            run.lines == [
                "trireme: standard output: what the job wrote is lost: no space left on device [output-lost]",
                "status 125", "status 0", "trireme: nobody reads the job's output any more (--pipe-fail)", "status 141",
            ], "\(run.outputText)\(run.errorText)")
    }

    /// `>&-`: the next thing that is opened must not become standard output, and nothing waits for it.
    @Test func aJobWithoutStandardOutputIsToldSo() throws {
        let run = try script(
            """
            { timeout 60 trireme run --rm local --launcher direct -n 2 $mpich echo x 2>said >&-; echo "status $?"; } 2>&1
            cat said; trireme job ls >/dev/full 2>said; echo "status $?"; cat said
            """)
        #expect(
            run.lines == [
                "status 125", "trireme: standard output: what the job wrote is lost: bad file descriptor [output-lost]",
                "status 125",
                "trireme: standard output: the result of this command is lost: no space left on device [output-lost]",
            ], "\(run.outputText)\(run.errorText)")
    }

    /// Neither read nor written by a rank, isolated or not: the agent that starts it has none of them.
    @Test(arguments: ["", "--profile isolated"]) func ranksInheritNoDescriptors(options: String) throws {
        let run = try script(
            """
            echo secret >file; exec 7<file 8<>file
            job \(options) -n 2 $mpich sh -c 'for n in 3 4 5 6 7 8 9; do
                if [ -e /proc/self/fd/$n ]; then readlink /proc/self/fd/$n; fi; done; { echo inject >&8; } 2>/dev/null' 2>&1 | grep -e file -e secret
            cat file; job --preserve-fds 8 -n 1 $mpich true 2>&1 | grep -o '\\[option-value\\]'
            """)
        #expect(run.lines == ["secret", "[option-value]"], "\(run.outputText)\(run.errorText)")
    }

    @Test func othersThatDoNotFollowEndTheJobInTime() throws {
        let run = try script(
            """
            job -n 2 --exit-timeout 1s $mpich sh -c 'exec sleep $((RANK * 300))'; echo "status $?"
            job -n 2 --exit-timeout soon $mpich true 2>&1 | grep -o '\\[option-value\\]'
            """)
        #expect(run.lines == ["status 125", "[option-value]"], "\(run.outputText)\(run.errorText)")
        #expect(run.errorText.contains("exited 0: 1 ranks still ran 1.0 s later [exit-timeout]"), "\(run.errorText)")
    }

    /// More silent connections than the leader may have files open: it neither spins nor keeps anybody waiting.
    @Test func silentConnectionsKeepNobodyWaiting() throws {
        let run = try script(
            """
            (ulimit -n 128; exec trireme run --rm local --launcher direct --port 23471 -n 2 $mpich sh -c 'echo up; sleep 300') \
                >out 2>said & job=$!
            for i in $(seq 300); do [ "$(grep -c up out)" = 2 ] && break; sleep 0.1; done
            python3 -c '
            import socket, sys, time
            held = []
            for i in range(400):
                try: held.append(socket.create_connection(("127.0.0.1", 23471), 2))
                except OSError: break
            print(len(held) > 200, flush=True)
            time.sleep(60)' >held & holder=$!
            for i in $(seq 300); do [ -s held ] && break; sleep 0.1; done
            cat held; sleep 1
            ticks() { awk '{ print $14 + $15 }' /proc/$job/stat; }
            before=$(ticks); sleep 2; [ $(($(ticks) - before)) -lt 40 ] && echo idle
            kill -0 $holder && id=$(trireme ps -q)
            before=$(date +%s%N); trireme job cancel $id >/dev/null; wait $job; echo "ended $?"
            [ $((($(date +%s%N) - before) / 1000000)) -lt 3000 ] && echo soon
            kill $holder
            """)
        #expect(run.lines == ["True", "idle", "ended 143", "soon"], "\(run.outputText)\(run.errorText)")
    }

    /// Agents of 48 nodes come at once, behind 300 connections that say nothing, to a leader with 256 descriptors.
    @Test func agentsThatComeTogetherAllJoin() throws {
        let run = try script(
            """
            mkdir bin
            cat >bin/ssh <<'STANDIN'
            #!/bin/sh
            while [ "${1#-}" != "$1" ]; do [ "$1" = -o ] && shift; shift; done
            shift; while [ ! -e go ]; do sleep 0.1; done
            # A node of its own to the agent: where its user's processes meet is nobody else's.
            exec unshare --map-current-user --keep-caps --mount sh -c '
            p=/run/user/$(id -u); [ -d $p ] && p=$p/trireme || p=/tmp/trireme-$(id -u)
            mkdir -p -m 700 $p; mount -t tmpfs -o mode=700 none $p; exec sh -c "$0"' "$*"
            STANDIN
            chmod +x bin/ssh; for i in $(seq 48); do echo node$i; done >hosts
            (ulimit -n 256; PATH=$PWD/bin:$PATH exec trireme run --hostfile hosts --launcher direct --port 23473 \\
                --join-timeout 60 -n 48 $mpich echo up) >out 2>said & job=$!
            python3 -c '
            import socket, time
            held = []
            while len(held) < 300:
                try: held.append(socket.create_connection(("127.0.0.1", 23473), 2))
                except OSError: time.sleep(0.05)
            print("held", flush=True)
            time.sleep(60)' >held & holder=$!
            for i in $(seq 300); do [ -s held ] && break; sleep 0.1; done
            cat held; touch go; wait $job; echo "ended $?"; grep -c up out
            kill $holder; cat said >&2
            """)
        #expect(run.lines == ["held", "ended 0", "48"], "\(run.outputText)\(run.errorText)")
    }

    /// The agent takes what its limit of open files allows; its ranks have the caller's.
    @Test func manyRanksNeedNoLimitRaised() throws {
        let run = try script(
            """
            ulimit -Sn 128; ulimit -Hn 4096
            job -n 100 $mpich sh -c 'ulimit -Sn' | sort | uniq -c | tr -s ' '; echo "status ${PIPESTATUS[0]}"
            """)
        #expect(run.lines == [" 100 128", "status 0"], "\(run.outputText)\(run.errorText)")
    }

    @Test func aRecordThatCannotBeKeptDoesNotEndTheJob() throws {
        let run = try script("XDG_STATE_HOME=/proc/none job -n 2 $mpich echo hello; echo \"status $?\"")
        #expect(run.lines == ["hello", "hello", "status 0"], "\(run.outputText)\(run.errorText)")
        #expect(run.errorText.contains("[record-unwritable]"), "\(run.errorText)")
    }

    private static func isDelegated(_ controller: String) -> Bool {
        guard let own = CgroupTree.current().legacy(controller)?.directory else { return false }
        return access(own, W_OK) == 0
    }

    /// The kernel's kill for memory is told apart from any other, with rank, node, limit and peak, whoever starts
    /// the ranks.
    @Test(
        .enabled(if: isDelegated("memory"), "no control group is delegated to this user"),
        arguments: [JobFixture.openMPI, JobFixture.mpich], ["direct", "mpirun"])
    func memoryThatRunsOutIsToldApart(_ image: String, _ launcher: String) throws {
        let run = try script(
            "job --launcher \(launcher) -n 2 -m 64m \(image) sh -c '[ $RANK = 1 ] && exec tail /dev/zero; sleep 300'; echo $?"
        )
        #expect(run.lines == ["137"], "\(run.outputText)\(run.errorText)")
        #expect(run.errorText.contains("trireme: rank 1 on "), "\(run.errorText)")
        #expect(
            run.errorText.contains(": killed by the memory limit 64 MiB (oom_kill 1), at a peak of 6"),
            "\(run.errorText)")
        #expect(run.errorText.contains("[memory-limit]"), "\(run.errorText)")
        // What a rank started is not the rank.
        let below = try script(
            "job --launcher \(launcher) -n 1 -m 64m \(image) sh -c 'tail /dev/zero; exit 3' 2>&1; echo $?")
        #expect(below.outputText.contains("rank 0 on ") && below.outputText.contains(": one process inside was killed"))
        #expect(below.lines.last == "3", "\(below.outputText)")
    }

    private static let hasSwap = (try? String(contentsOfFile: "/proc/swaps", encoding: .utf8))?.contains("/") == true

    @Test(
        .enabled(if: isDelegated("memory") && isDelegated("pids"), "no control group is delegated to this user"),
        .disabled(if: hasSwap, "what is held may be swapped out"))
    func limitsChangeWhileTheJobRuns() throws {
        let memory = try #require(CgroupTree.current().legacy("memory")).point + "/memory.limit_in_bytes"
        let processes = try #require(CgroupTree.current().legacy("pids")).point + "/pids.max"
        let run = try script(
            """
            job -n 1 -m 64m --pids-limit 50 $mpich sh -c 'cat \(memory) \(processes); echo up
                until [ $(cat \(processes)) = 60 ]; do sleep 0.1; done
                cat \(memory); held=$(head -c 20000000 /dev/zero | tr "\\0" x); echo done
                while :; do sleep 1; done' >out 2>&1 & job=$!
            until_said() { for i in $(seq 300); do grep -q $1 out && return; sleep 0.1; done; cat out; }
            until_said up
            id=$(trireme ps -q)
            trireme job update -m 128m --pids-limit 60 $id >/dev/null; echo "updated $?"
            until_said done; cat out
            # The kernel takes no limit below what is held, unless it can be swapped out.
            trireme job update -m 8m $id 2>&1 | grep -o '\\[job-refused\\]'
            trireme job update --cpus 0.5 $id 2>&1 | grep -o 'started without --cpus'
            trireme job events $id | grep -c job.updated
            trireme job cancel $id >/dev/null; wait $job
            trireme job show $id --format json | grep -c '"peak_memory" : [1-9]'
            """)
        #expect(
            run.lines == [
                "updated 0", "\(64 << 20)", "50", "up", "\(128 << 20)", "done", "[job-refused]",
                "started without --cpus", "1", "2",
            ], "\(run.outputText)\(run.errorText)")
    }

    @Test func limitsOfAJobWithoutAreRefused() throws {
        let run = try script(
            """
            job -n 1 $mpich sh -c 'echo up; exec sleep 300' >out 2>&1 & job=$!
            for i in $(seq 300); do grep -q up out && break; sleep 0.1; done
            id=$(trireme ps -q)
            trireme job update -m 128m $id; echo $?
            trireme job update $id 2>&1 | grep -o '\\[usage\\]'
            trireme job cancel $id >/dev/null; wait $job
            """)
        #expect(run.lines == ["125", "[usage]"], "\(run.outputText)\(run.errorText)")
        #expect(run.errorText.contains("no control group of its own: the job was started without limits"))
    }
}
