import Foundation
import TestSupport
import Testing

/// HTCondor's parallel universe, played by Slurm: one process per node, started by the system with the same
/// script, and a `condor_chirp` that puts, fetches and removes files of a directory all nodes see, as the real
/// one does through starter and shadow (condor_chirp(1)). `HTCondorTests` has the real one where its image is.
@Suite(.serialized) struct ParallelUniverseTests {
    let fixture: JobFixture
    init() throws { fixture = try JobFixture() }

    /// Runs `text` as the script of a job of three machines with two processors each.
    private func job(_ text: String) throws -> ProgramRun {
        try fixture.script(
            """
            work=$(mktemp -d ~/.trireme-universe.XXXXXX); trap 'rm -rf "$work"' EXIT; export work
            mkdir $work/bin $work/spool
            printf '#!/bin/sh\\n[ "$1" = LIBEXEC ] && echo %s/bin\\n' "$work" >$work/bin/condor_config_val
            cat >$work/bin/condor_chirp <<'CHIRP'
            #!/bin/sh
            verb=$1; shift
            case $verb in
            put) [ "$1 $2 $3 $4 $5" = "-mode cwt -perm 0600 -" ] && umask 177 && cat >"$6" ;;
            fetch) [ "$2" = - ] && cat "$1" 2>/dev/null ;;
            remove) rm "$1" ;;
            *) exit 255 ;;
            esac
            CHIRP
            chmod +x $work/bin/*
            cat >$work/job <<'JOB'
            export _CONDOR_PROCNO=$SLURM_PROCID _CONDOR_NPROCS=3 _CONDOR_JOB_AD=$work/ad.$SLURM_PROCID
            export _CONDOR_SCRATCH_DIR=$work/scratch.$SLURM_PROCID; mkdir $_CONDOR_SCRATCH_DIR
            export _CONDOR_REMOTE_SPOOL_DIR=$work/spool PATH=$work/bin:$PATH
            printf 'ClusterId = 88\\nProcId = 0\\nRequestCpus = 2\\n' >$_CONDOR_JOB_AD
            echo 'AllRemoteHosts = "slot1@n1,slot1@n2,slot1@n3"' >>$_CONDOR_JOB_AD
            unset $(env | sed -n 's/^\\(SLURM[A-Z0-9_]*\\)=.*/\\1/p')
            \(text)
            JOB
            salloc -Q -N 3 -n 3 srun -K0 -N 3 -n 3 --mpi=none --cpu-bind=none bash $work/job
            find $work/spool -type f
            """)
    }

    @Test func everyProcessButTheFirstIsItsNodesAgent() throws {
        let run = try job(
            """
            [ $_CONDOR_PROCNO != 0 ] || trireme alloc show | head -1
            trireme run -n 6 -N 3 \(JobFixture.openMPI) mpi-hello
            echo "$_CONDOR_PROCNO first $?"
            trireme run -n 3 -N 3 --launcher direct \(JobFixture.openMPI) sh -c 'exit 7'
            echo "$_CONDOR_PROCNO second $?"
            """)
        #expect(run.lines.contains("system  condor"), "\(run.errorText)")
        for node in ["n1", "n2", "n3"] {
            #expect(
                run.lines.filter { $0.contains(" of 6 on \(node)") }.count == 2, "\(run.outputText)\(run.errorText)")
        }
        let ends = run.lines.filter { $0.contains("first") || $0.contains("second") }.sorted()
        #expect(ends == ["0 first 0", "0 second 7", "1 first 0", "1 second 0", "2 first 0", "2 second 0"])
        // Every summons was taken: no file, and with it no secret, is left.
        #expect(run.lines.filter { $0.contains("/spool/") }.isEmpty)
        #expect(try fixture.isClean(), "\((try? fixture.leftovers()) ?? [])")
    }

    /// The others wait neither for a job that could not begin nor for one that does not need them.
    @Test func processesThatAreNotNeededGoOn() throws {
        let run = try job(
            """
            trireme run -n 6 -N 3 no-such-image true
            echo "$_CONDOR_PROCNO first $?"
            trireme run -n 2 -N 1 \(JobFixture.mpich) mpi-hello
            echo "$_CONDOR_PROCNO second $?"
            """)
        let ends = run.lines.filter { $0.contains("first") || $0.contains("second") }.sorted()
        #expect(
            ends == ["0 first 125", "0 second 0", "1 first 0", "1 second 0", "2 first 0", "2 second 0"],
            "\(run.outputText)\(run.errorText)")
        #expect(run.lines.filter { $0.contains(" of 2 on n1") }.count == 2)
        #expect(run.errorText.contains("[image-not-found]"))
    }
}
