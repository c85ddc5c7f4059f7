import Foundation
import TestSupport
import Testing

/// `ssh` inside a job's containers, for programs that insist on it, on nodes that are really apart.
@Suite(.serialized) struct JobShellTests {
    let fixture: JobFixture
    init() throws { fixture = try JobFixture(nodes: 2) }

    /// A script as the only rank of two nodes.
    private func onFirst(_ script: String, _ options: [String] = [], limitSeconds: Double = 120) throws -> ProgramRun {
        try fixture.run(
            ["-n", "1", "-N", "2"] + options + [JobFixture.openMPI, "sh", "-c", script], limitSeconds: limitSeconds)
    }

    /// Names, times and contents of what lies in ~/.ssh.
    private func keys() throws -> String {
        try runProgram([
            "sh", "-c", "cd ~/.ssh 2>/dev/null || exit 0; ls -la --time-style=full-iso; cat ./* 2>/dev/null",
        ]).outputText
    }

    @Test func whatProgramsExpectOfIt() throws {
        let before = try keys()
        let run = try onFirst(
            """
            command -v ssh; command -v rsh
            ssh n2 hostname; rsh n2 hostname; ssh n1 hostname; ssh localhost hostname
            ssh -x -q -T -p 22 -o BatchMode=yes -oStrictHostKeyChecking=yes -i /none n2 hostname
            ssh $(getent hosts n2 | cut -d ' ' -f 1) hostname; ssh $(id -un)@N2 hostname
            ssh n2 'exit 3'; echo "status $?"
            ssh n2 'kill -9 $$'; echo "status $?"
            ssh n2 no-such-program 2>/dev/null; echo "status $?"
            ssh n2 'echo out; echo err >&2' 2>/tmp/err.$$ | sed s/^/1:/; sed s/^/2:/ /tmp/err.$$
            ssh n2 echo "'a  b'" '"$((1+2))"' \\; hostname
            echo 'hostname; echo $((40+2))' | ssh -T n2
            ssh n2 "ssh n1 'ssh n2 hostname'"
            ssh -n n2 cat </proc/self/status; echo "status $?"
            ssh -f n2 'sleep 300'; echo "status $?"
            ssh -tt n2 'tty | cut -c 1-9; stty size' </dev/null | tr -d '\\r'
            env -i /.trireme/bin/ssh n2 hostname
            for i in 1 2 3; do echo $i; done | while read i; do ssh -n n2 "echo loop $i"; done
            """)
        #expect(
            run.lines == [
                "/.trireme/bin/ssh", "/.trireme/bin/rsh", "n2", "n2", "n1", "n1", "n2", "n2", "n2", "status 3",
                "status 137", "status 127", "1:out", "2:err", "a  b 3", "n2", "n2", "42", "n2", "status 0", "status 0",
                "/dev/pts/", "24 80", "n2", "loop 1", "loop 2", "loop 3",
            ], "\(run.outputText)\(run.errorText)")
        #expect(try run.status == 0 && run.errorText.isEmpty && keys() == before, "\(run.errorText)")
        #expect(try fixture.isClean(nodes: ["ctl", "n1", "n2"]), "\((try? fixture.leftovers(["n1", "n2"])) ?? [])")
    }

    @Test func bytesGoThroughWhole() throws {
        let run = try onFirst(
            """
            cd /tmp; mkdir shell.$$; cd shell.$$; trap 'rm -rf /tmp/shell.$$' EXIT
            head -c 20000000 /dev/urandom >random; ln -s random link; for i in $(seq 300); do echo $i >file$i; done
            sum() { tar c --sort=name --mtime=@0 . | sha256sum; }
            sum; tar c . | ssh n2 "mkdir /tmp/shell.$$.copy && tar x -C /tmp/shell.$$.copy && cd /tmp/shell.$$.copy && tar c --sort=name --mtime=@0 . | sha256sum"
            ssh n2 "tar c -C /tmp/shell.$$.copy ." | (mkdir back; cd back; tar x; sum)
            rm -rf back; ssh n2 cat <random | sha256sum; sha256sum <random
            # A reader that is slow, and one that goes away.
            ssh n2 cat /tmp/shell.$$.copy/random | (sleep 1; sha256sum)
            ssh n2 'yes trireme' | head -n 2
            ssh n2 "rm -rf /tmp/shell.$$.copy"
            """)
        let sums = run.lines
        #expect(run.status == 0 && run.errorText.isEmpty, "\(run.outputText)\(run.errorText)")
        try #require(sums.count == 8, "\(run.outputText)\(run.errorText)")
        #expect(sums[0] == sums[1] && sums[1] == sums[2], "\(sums)")
        #expect(sums[3] == sums[4] && sums[4] == sums[5] && sums[6...] == ["trireme", "trireme"], "\(sums)")
    }

    @Test func whatCannotBeIsSaid() throws {
        let run = try onFirst(
            """
            try() { "$@" </dev/null 2>&1 | tail -n 1; }
            try ssh n7 true; ssh n7 true 2>/dev/null; echo "status $?"
            try ssh -L 1:a:1 n2 true; try ssh -l nobody n2 true; try ssh -Z n2 true; try ssh -s n2 sftp
            ssh -q n7 true; echo "status $?"
            """)
        #expect(
            run.lines == [
                "ssh: Could not resolve hostname n7: not a node of this job (n[1-2])", "status 255",
                "ssh: -L: nothing is forwarded within a job: its nodes reach each other's ports themselves",
                "ssh: nobody@n2: Permission denied (the job's processes are \(NSUserName())'s)",
                "ssh: unknown option -- 'Z'",
                "ssh: -s: there are no subsystems (sftp) within a job: use tar, or rsync, through ssh", "status 255",
            ], "\(run.outputText)\(run.errorText)")
        #expect(run.errorText.isEmpty)
        let without = try onFirst("command -v ssh; ls -A /.trireme; echo $PATH", ["--no-ssh"])
        #expect(
            !without.outputText.contains("/.trireme/bin") && without.lines.contains("agent"),
            "\(without.outputText)\(without.errorText)")
    }

    @Test func aCommandEndsWithItsCaller() throws {
        let run = try onFirst(
            """
            count() { ssh n2 'cat /proc/[0-9]*/cmdline 2>/dev/null | tr "\\0" "\\n" | grep -c "^471[67]$"'; }
            become() { for i in $(seq 100); do [ "$(count)" = $1 ] && break; sleep 0.1; done; count; }
            ssh n2 'sleep 4716' & one=$!
            ssh n2 'sleep 4717 | cat' & two=$!
            become 2; kill -9 $one; kill $two; become 0
            """)
        #expect(run.lines == ["2", "0"], "\(run.outputText)\(run.errorText)")
    }

    /// Launchers of the user's own, in one rank, with ssh as they know it; both jobs on the same nodes at once.
    ///
    /// Hydra starts no MPI program here: MPICH's own deadlock in MPI_Finalize, which trireme's launches undo
    /// (`PMIRelay`), would show on busy machines.
    @Test func launchersOfTheUsersOwn() throws {
        let run = try fixture.script(
            """
            cat >~/shell.$$ <<'END'
            job() { image=mpi-hello:$1; shift; trireme run -n 1 -N 2 $image "$@"; }
            job openmpi mpirun --mca plm rsh --mca plm_rsh_agent ssh --mca ras ^slurm --oversubscribe -np 4 --host n1:2,n2:2 mpi-hello &
            job mpich mpiexec -launcher ssh -rmk user -hosts n1:2,n2:2 -n 4 sh -c 'echo hydra $PMI_RANK of $PMI_SIZE on $(hostname)' &
            wait
            END
            salloc -Q -N 2 -n 4 sh ~/shell.$$; rm ~/shell.$$
            """)
        let ranks = run.lines.filter { $0.contains(" of 4 on n") && $0.hasSuffix("sum 6") }
        #expect(
            ranks.count == 4 && ranks.filter { $0.contains(" on n2 ") }.count == 2, "\(run.outputText)\(run.errorText)")
        #expect(
            run.lines.filter { $0.hasPrefix("hydra") }.sorted()
                == ["hydra 0 of 4 on n1", "hydra 1 of 4 on n1", "hydra 2 of 4 on n2", "hydra 3 of 4 on n2"],
            "\(run.outputText)\(run.errorText)")
        #expect(try fixture.isClean(nodes: ["ctl", "n1", "n2"]), "\((try? fixture.leftovers(["n1", "n2"])) ?? [])")
    }
}
