import Foundation
import TestSupport
import Testing

/// What a job's script finds or puts into its environment decides neither how our steps start nor whether an image's
/// own mpirun works in it.
@Suite(.serialized) struct SlurmEnvironmentTests {
    let fixture: JobFixture
    init() throws { fixture = try JobFixture(nodes: 2) }

    /// Runs `script` as a batch job of two nodes and four tasks, submitted with `options`; its output.
    private func batch(_ script: String, _ options: String = "") throws -> ProgramRun {
        let directory = (fixture.trireme as NSString).deletingLastPathComponent
        return try fixture.script(
            """
            cat >~/batch.$$ <<'END'
            #!/bin/bash
            export HOME=${HOME:-$(getent passwd $(id -u) | cut -d: -f6)} PATH=\(directory):${PATH:-/usr/bin:/bin}
            export TRIREME_STORE='\(ProcessInfo.processInfo.environment["TRIREME_STORE"] ?? "")'
            export XDG_STATE_HOME=\(fixture.clusters.directory.path)
            \(script)
            END
            sbatch -Q \(options) -N 2 -n 4 --wait -o ~/batch.out.$$ ~/batch.$$ >/dev/null
            cat ~/batch.out.$$; rm -f ~/batch.$$ ~/batch.out.$$
            """)
    }

    /// `sbatch --export=NONE` sets SLURM_EXPORT_ENV, by which srun would keep the environment from what it starts.
    @Test(arguments: [("--export=NONE", ""), ("", "export SLURM_EXPORT_ENV=NONE\n")])
    func jobsWithoutAnEnvironment(_ options: String, _ variable: String) throws {
        let run = try batch(
            variable
                + """
                for how in '--launcher mpirun' '--launcher direct' '--model rank'; do
                    trireme run -n 4 -N 2 $how \(JobFixture.openMPI) mpi-hello 2>&1 | grep -c ' of 4 .* sum 6$'
                done
                trireme run -n 4 -N 2 --launcher direct \(JobFixture.mpich) mpi-hello 2>&1 | grep -c ' of 4 .* sum 6$'
                """, options)
        #expect(run.lines == ["4", "4", "4", "4"], "\(run.outputText)\(run.errorText)")
    }

    /// srun(1), "INPUT ENVIRONMENT VARIABLES": those that broke or changed a start.
    private static let settings = [
        "SLURM_DEBUG=2 SLURM_LABELIO=1 SLURMD_DEBUG=3", "SLURM_CPU_BIND=map_cpu:0 SLURM_MEM_BIND=local",
        "SLURM_NNODES=1 SLURM_JOB_NUM_NODES=1 SLURM_NTASKS=8 SLURM_NPROCS=8 SLURM_NTASKS_PER_NODE=1",
        "SLURM_MEM_PER_CPU=100 SLURM_MEM_PER_NODE=200 SLURM_EXCLUSIVE=1 SLURM_EXACT=1 SRUN_CPUS_PER_TASK=2",
        "SLURM_STDOUTMODE=none SLURM_STDINMODE=none SLURM_STDERRMODE=none SLURM_MPI_TYPE=pmix SLURM_HINT=nomultithread",
        "SLURM_REMOTE_CWD=/nowhere SLURM_WORKING_DIR=/nowhere SLURM_DISTRIBUTION=arbitrary SLURM_HOSTFILE=/nowhere",
        "SLURM_TASK_PROLOG=/nowhere SLURM_PROLOG=/nowhere SLURM_TEST_EXEC=1 SLURM_BCAST=/tmp/x SLURM_IMMEDIATE=1",
        "SLURM_GRES=gpu:9 SLURM_GPUS=9 SLURM_CONSTRAINT=none SLURM_RESERVATION=none SLURM_JOB_ID=$SLURM_JOB_ID",
    ]

    @Test func optionsInVariablesDecideNothing() throws {
        let ways = ["--launcher direct", "--model rank"]
        let all = Self.settings.flatMap { setting in ways.map { (setting, $0) } }
        let run = try batch(
            all.map { setting, way in
                "env \(setting) trireme run -n 4 -N 2 \(way) \(JobFixture.openMPI) mpi-hello >said 2>&1 </dev/null; "
                    + "echo $? $(grep -c ' of 4 .* sum 6$' said) $(wc -l <said) $(grep -v ' sum 6$' said)"
            }.joined(separator: "\n") + "\nrm -f said")
        #expect(run.lines == all.map { _ in "0 4 4" }, "\(run.outputText)\(run.errorText)")
    }

    /// What describes the job is there for the ranks all the same.
    @Test func ranksOfAStepKnowTheirJob() throws {
        let run = try batch(
            """
            export SLURM_CPUS_PER_TASK=1
            trireme run -n 2 -N 2 --model rank \(JobFixture.openMPI) \\
                sh -c 'echo $SLURM_CPUS_PER_TASK ${SLURM_SUBMIT_DIR:+there} ${SLURM_JOB_ID:+there} $SLURM_NTASKS'
            """)
        #expect(run.lines == ["1 there there 2", "1 there there 2"], "\(run.outputText)\(run.errorText)")
    }

    /// An image's own launcher in a container of its own would call for srun, which the image has not.
    @Test(arguments: [JobFixture.openMPI, JobFixture.mpich])
    func anImagesLauncherAloneInAJob(_ image: String) throws {
        let run = try batch(
            """
            for n in 2 4; do
                timeout 60 trireme run \(image) mpirun -n $n mpi-hello 2>&1 </dev/null | grep -c "of $n "
                timeout 60 srun -Q -N 1 -n 1 trireme run \(image) sh -c "mpiexec -n $n mpi-hello" 2>&1 | grep -c "of $n "
            done
            timeout 60 trireme run \(image) mpi-hello | grep -c '0 of 1 '
            trireme run -e HYDRA_RMK=mine -e OMPI_MCA_ras=mine \(image) sh -c 'echo $HYDRA_RMK $OMPI_MCA_ras'
            trireme run -B /usr/bin/srun:/usr/bin/srun \(image) sh -c 'echo ${HYDRA_RMK:-unset} ${OMPI_MCA_ras:-unset}'
            """)
        #expect(
            run.lines == ["2", "2", "4", "4", "1", "mine mine", "unset unset"], "\(run.outputText)\(run.errorText)")
        let outside = try runProgram(
            [fixture.trireme, "run", image, "sh", "-c", "echo ${HYDRA_RMK:-unset} ${OMPI_MCA_ras:-unset}"],
            environment: ["SLURM_JOB_ID": nil])
        #expect(outside.lines == ["unset unset"], "\(outside.errorText)")
    }

    /// nohup(1) ignores the signal by which a terminal's end is told; a signalfd would hear it all the same.
    @Test func whoIgnoresAHangUpSurvivesIt() throws {
        let directory = (fixture.trireme as NSString).deletingLastPathComponent
        let image = JobFixture.openMPI
        let run = try runProgram(
            [
                "sh", "-c",
                """
                PATH=\(directory):$PATH; trap '' HUP
                survive() { "$@" </dev/null & p=$!; sleep 2; kill -HUP $p; wait $p; echo "status $?"; }
                survive trireme run --rm local -n 2 \(image) sh -c 'sleep 4; echo survived'
                survive trireme-cli cluster exec \(JobFixture.name) -- sh -c 'sleep 4; echo survived'
                trap - HUP
                survive trireme run --rm local -n 1 \(image) sh -c 'sleep 20; echo survived'
                """,
            ], environment: ["XDG_STATE_HOME": fixture.clusters.directory.path])
        #expect(
            run.lines == ["survived", "survived", "status 0", "survived", "status 0", "status 129"],
            "\(run.outputText)\(run.errorText)")
    }
}
