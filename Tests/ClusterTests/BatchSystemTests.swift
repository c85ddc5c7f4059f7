import Foundation
import TestSupport
import Testing

/// Jobs under batch systems that are not installed here, on nodes that are really apart. The systems'
/// commands are stand-ins which reach a node by Slurm, with the streams and the environment the real
/// commands give (named at each); trireme sees nothing of Slurm.
@Suite(.serialized) struct BatchSystemTests {
    let fixture: JobFixture
    init() throws { fixture = try JobFixture() }

    /// One system: its stand-in command, and what its jobs have in their environment.
    struct System: Sendable, CustomTestStringConvertible {
        var name: String
        var command: String
        /// A shell script; `reach HOST WORD…` starts a process there with input, output and an empty environment.
        var standIn: String
        /// Variables of the job; `$work` is a directory of the test's.
        var job: String
        /// Options of trireme.
        var options = ""
        var testDescription: String { name }
    }

    private static let pairs = "n1 2\\nn2 2\\nn3 2\\n"
    static let systems = [
        // qrsh(1): -inherit HOST COMMAND; standard input is connected unless -nostdin is given. The words
        // are joined and read by a shell on the node (seen with 8.1.9; GridEngineTests has the real one).
        System(
            name: "sge", command: "qrsh",
            standIn: "[ \"$1\" = -inherit ] || exit 9; host=$2; shift 2; reach \"$host\" sh -c \"$*\"",
            job:
                "export SGE_ROOT=/opt/sge JOB_ID=88 SGE_TASK_ID=undefined PE_HOSTFILE=$work/pe; printf 'n1 2 q UNDEFINED\\nn2 2 q UNDEFINED\\nn3 2 q UNDEFINED\\n' >$PE_HOSTFILE"
        ),
        // pbs_tmrsh(8B): HOST COMMAND; tm_spawn gives the task neither input nor the caller's environment.
        System(
            name: "pbs", command: "pbs_tmrsh", standIn: "reach \"$@\" </dev/null",
            job:
                "export PBS_JOBID=88.srv PBS_NODEFILE=$work/nodes; printf 'n1\\nn1\\nn2\\nn2\\nn3\\nn3\\n' >$PBS_NODEFILE"
        ),
        // Torque's pbsdsh(1): -h HOST COMMAND.
        System(
            name: "torque", command: "pbsdsh", standIn: "[ \"$1\" = -h ] || exit 9; shift; reach \"$@\" </dev/null",
            job:
                "export PBS_VERSION=TORQUE-6.1.2 PBS_JOBID=88.srv PBS_NODEFILE=$work/nodes; printf 'n1\\nn2\\nn3\\nn1\\nn2\\nn3\\n' >$PBS_NODEFILE"
        ),
        // blaunch(1): HOST COMMAND, with the caller's environment.
        System(
            name: "lsf", command: "blaunch",
            standIn: "host=$1; shift; reach \"$host\" TRIREME_JOB_SECRET=\"$TRIREME_JOB_SECRET\" \"$@\"",
            job: "export LSB_JOBID=88 LSB_MCPU_HOSTS='n1 2 n2 2 n3 2' LSB_DJOB_NUMPROC=6"),
        // flux-exec(1): one process per broker of --rank, standard input goes to all.
        System(
            name: "flux", command: "flux",
            standIn: """
                case "$*" in
                "getattr instance-level") echo 1 ;;
                "getattr jobid") echo f88 ;;
                "getattr hostlist") echo 'n[1-3]' ;;
                "resource list"*) echo 'n[1-3] 3 6' ;;
                "exec --rank=0,1,2 "*) shift 2; secret=$(cat); for n in n1 n2 n3; do echo "$secret" | reach $n "$@" & done; wait ;;
                *) exit 9 ;;
                esac
                """,
            job: "export FLUX_URI=local:///x"),
        // ssh(1): the words after the host are one shell command line there.
        System(
            name: "ssh", command: "ssh",
            standIn: """
                while [ "${1#-}" != "$1" ]; do [ "$1" = -o ] && shift; shift; done
                host=$1; shift; reach "$host" sh -c "$*"
                """,
            job: "printf 'n1 slots=2\\nn2:2\\nn3\\nn3\\n' >$work/hosts", options: "--hostfile $work/hosts"),
    ]

    /// Runs `text` as a job of `system`.
    func job(_ system: System, _ text: String) throws -> ProgramRun {
        try fixture.script(
            """
            work=$(mktemp -d); trap 'rm -rf "$work"' EXIT; export work
            cat >$work/\(system.command) <<'STANDIN'
            #!/bin/bash
            reach() { h=$1; shift; SLURM_JOB_ID=$standin_job srun --overlap -Q -w "$h" -N 1 -n 1 --mpi=none --cpu-bind=none --mem=0 \
            env -i PATH="$PATH" HOME="$HOME" "$@"; }
            \(system.standIn)
            STANDIN
            chmod +x $work/\(system.command)
            cat >$work/job <<'JOB'
            export standin_job=$SLURM_JOB_ID
            unset $(env | sed -n 's/^\\(SLURM[A-Z0-9_]*\\)=.*/\\1/p')
            export PATH=$work:$PATH
            # The state directory of a real site is shared by its nodes; this fixture's is not.
            unset XDG_STATE_HOME
            \(system.job)
            \(text)
            JOB
            salloc -Q -N 3 -n 6 bash $work/job
            """)
    }

    @Test(arguments: systems) func aJobOverThreeNodes(_ system: System) throws {
        let run = try job(
            system,
            """
            trireme run \(system.options) -n 6 -N 3 -l \(JobFixture.openMPI) mpi-hello
            echo "status $?"
            trireme run \(system.options) -n 3 -N 3 --launcher direct \(JobFixture.openMPI) sh -c 'exit 7'
            echo "status $?"
            ls ~/.local/state/trireme/*.secret 2>/dev/null
            """)
        let ranks = run.lines.filter { $0.contains(" of 6 on ") }.sorted()
        #expect(ranks.count == 6 && ranks[0].contains("on n1") && ranks[5].contains("on n3"), "\(run.errorText)")
        #expect(run.lines.filter { $0.hasPrefix("status") } == ["status 0", "status 7"])
        // No secret of a job stays.
        #expect(run.lines.filter { $0.hasSuffix(".secret") }.isEmpty)
        #expect(try fixture.isClean(), "\((try? fixture.leftovers()) ?? [])")
    }

    /// What every system does when it takes a job away, after asking or without: whatever carried the agents to
    /// their nodes, they end with the leader.
    @Test(arguments: systems) func aJobThatIsTakenAwayLeavesNothing(_ system: System) throws {
        let run = try job(
            system,
            """
            trireme run \(system.options) -n 6 -N 3 \(JobFixture.mpich) mpi-hello --sleep 90 >$work/said </dev/null & leader=$!
            i=0; while [ "$(grep -c ' of 6 on ' $work/said)" != 6 ] && [ $i -lt 600 ]; do sleep 0.1; i=$((i + 1)); done
            grep -c ' of 6 on ' $work/said
            kill -KILL $leader; wait $leader 2>/dev/null; echo "status $?"
            ls ~/.local/state/trireme/*.secret 2>/dev/null
            """)
        #expect(run.lines == ["6", "status 137"], "\(run.outputText)\(run.errorText)")
        #expect(try fixture.isClean(), "\((try? fixture.leftovers()) ?? [])")
    }

    @Test func allocationsAreShown() throws {
        let run = try job(Self.systems[0], "trireme alloc show; trireme alloc show --format json")
        #expect(run.lines.first == "system  sge" && run.lines.contains("n3    2"), "\(run.outputText)\(run.errorText)")
        #expect(run.lines.last?.contains(#""slots": 6"#) ?? false)
        let none = try fixture.script("trireme alloc show; echo $?")
        #expect(none.lines.last == "1")
    }

    @Test func aNodeThatNeverJoinsIsNamed() throws {
        var late = Self.systems[0]
        late.standIn = "[ \"$2\" = n2 ] && exec sleep 60; host=$2; shift 2; reach \"$host\" sh -c \"$*\""
        let run = try job(
            late, "trireme run -n 6 -N 3 --join-timeout 12 \(JobFixture.mpich) mpi-hello; echo status $?")
        #expect(run.lines.last == "status 125", "\(run.outputText)\(run.errorText)")
        #expect(run.errorText.contains("trireme: n2: 1 of 3 nodes did not join within 12 s [join-timeout]"))
        #expect(run.seconds < 47)
        #expect(try fixture.isClean(), "\((try? fixture.leftovers()) ?? [])")
    }

    @Test func aNodeThatCannotBeReachedIsSaid() throws {
        var broken = Self.systems[0]
        broken.standIn = "echo 'error: executing task of job 88 failed: no suitable queues' >&2; exit 1"
        let run = try job(broken, "trireme run -n 6 -N 3 \(JobFixture.openMPI) mpi-hello; echo $?")
        #expect(run.lines.last == "125")
        #expect(run.errorText.contains("no suitable queues") && run.errorText.contains("control_slaves"))
        #expect(try fixture.isClean())
    }
}
