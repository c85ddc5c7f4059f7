import Foundation
import TestSupport
import Testing

/// `srun trireme run IMAGE` in a real Slurm: every rank is a launch of its own, and those of a node share a container.
@Suite(.serialized) struct StepTests {
    private static let namespaces = "echo ns $(hostname) $(readlink /proc/self/ns/user) $(readlink /proc/self/ns/mnt)"

    @Test func ranksOfARealStepShareTheirNodesContainer() throws {
        let fixture = try JobFixture(nodes: 2)
        // No rank ends before the last has started: their sum needs all of them. With Open MPI, as MPICH 4.0 over
        // UCX hangs in MPI_Finalize under Slurm's pmi2 on a busy machine, in containers and without
        // (pmodels/mpich pull request 6596).
        let job = try fixture.script(
            """
            srun -Q --mpi=pmix -N 2 -n 4 trireme run \(JobFixture.openMPI) sh -c '\(Self.namespaces); exec mpi-hello'
            echo "status $?"
            """)
        #expect(job.errorText.isEmpty, "PMIx finds its directory: \(job.errorText)")
        let shown = job.lines.filter { $0.hasPrefix("ns ") }
        #expect(shown.count == 4 && Set(shown).count == 2, "\(job.outputText)\(job.errorText)")
        #expect(job.lines.filter { $0.contains(" of 4 on ") && $0.hasSuffix(" sum 6") }.count == 4)
        #expect(job.lines.last == "status 0")
        let socket = try fixture.script(
            "srun -Q --mpi=pmi2 -N 2 -n 2 trireme run \(JobFixture.mpich) sh -c '[ -S /proc/self/fd/$PMI_FD ] && echo PMI'"
        )
        #expect(socket.lines == ["PMI", "PMI"], "\(socket.outputText)\(socket.errorText)")
        let isolated = try fixture.script(
            """
            look='ls -d /var/spool/slurmd/pmix* >/dev/null 2>&1 && echo seen || echo none'
            for profile in hpc isolated; do
                srun -Q --mpi=pmix -N 1 -n 1 trireme run --profile $profile \(JobFixture.openMPI) sh -c "$look"
            done
            """)
        #expect(isolated.lines == ["seen", "none"], "\(isolated.outputText)\(isolated.errorText)")
        try lateRanks(fixture)
        #expect(try fixture.script("squeue -h").outputText.isEmpty)
    }

    /// Rank 1 comes while rank 0 is there, rank 2 when both are gone.
    private func lateRanks(_ fixture: JobFixture) throws {
        let run = try fixture.script(
            """
            cat >~/late.sh <<'END'
            at=/tmp/late-$SLURM_JOB_ID; mkdir -p $at
            await() { i=0; until [ -e $at/$1 ] || [ $i = 600 ]; do sleep 0.1; i=$((i+1)); done; }
            case $SLURM_PROCID in
            0) trireme run \(JobFixture.mpich) sh -c "echo 0 \\$(readlink /proc/self/ns/user); touch $at/begun
                i=0; until [ -e $at/joined ] || [ \\$i = 600 ]; do sleep 0.1; i=\\$((i+1)); done"
               touch $at/ended ;;
            1) await begun; trireme run \(JobFixture.mpich) sh -c 'echo 1 $(readlink /proc/self/ns/user)'; touch $at/joined ;;
            2) await ended; await joined; trireme run \(JobFixture.mpich) sh -c 'echo 2 $(readlink /proc/self/ns/user)' ;;
            esac
            END
            srun -Q -N 1 -n 3 --overcommit sh ~/late.sh; echo "status $?"; rm -rf ~/late.sh /tmp/late-*
            """)
        let words = run.lines.map { $0.split(separator: " ").map(String.init) }.sorted { $0[0] < $1[0] }
        try #require(words.count == 4 && words.allSatisfy { $0.count == 2 }, "\(run.outputText)\(run.errorText)")
        #expect(words[0][1] == words[1][1], "joined: \(words)")
        #expect(words[2][0] == "2" && words[2][1].hasPrefix("user:"), "made afresh: \(words)")
        #expect(words[3] == ["status", "0"])
    }
}
