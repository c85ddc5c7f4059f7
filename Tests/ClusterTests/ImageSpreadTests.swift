import Foundation
import TestSupport
import Testing

/// Nodes that share no store, each with one of its own below its private /tmp: the image is in the controller's.
@Suite(.serialized) struct ImageSpreadTests {
    let jobs: JobFixture
    /// Seen by all nodes.
    let shared: TemporaryDirectory

    init() throws {
        jobs = try JobFixture()
        shared = try TemporaryDirectory(under: ProcessInfo.processInfo.environment["HOME"] ?? "/")
        // A program that says where it is, in 6 MB that do not compress.
        let made = try runProgram(
            [
                "sh", "-ec",
                """
                mkdir -p root/bin; head -c 6000000 /dev/urandom > root/ballast
                printf '#include <stdio.h>\\n#include <stdlib.h>\\n#include <unistd.h>\\nint main(void) {\
                char h[99]; gethostname(h, 99); printf("%%s %%s\\\\n", h, getenv("TRIREME_RANK")); }' > where.c
                gcc -static -o root/bin/where where.c; tar -C root -cf root.tar .
                """,
            ], directory: shared.path)
        #expect(made.status == 0, "\(made.errorText)")
    }

    /// In the controller, with the image in a store that only it has.
    private func script(_ text: String) throws -> ProgramRun {
        try jobs.script(
            """
            set -e; export TRIREME_STORE=/tmp/own
            trireme image inspect tiny:1 >/dev/null 2>&1 || trireme image import \(shared.path)/root.tar tiny:1 >/dev/null
            cd \(shared.path)
            \(text)
            """)
    }

    /// `none` from each node, as soon as it has put everything away.
    private let whatStays = """
        srun -N 3 -n 3 --ntasks-per-node=1 sh -c 'for i in 1 2 3 4 5 6 7 8 9 10; do ls -d /tmp/own/registry-spread* \
        >/dev/null 2>&1 || { echo none; exit; }; sleep 1; done; ls -d /tmp/own/registry-spread*'
        """

    /// `trireme run` itself brings it, once.
    @Test func aJobBringsItsImage() throws {
        let run = try script(
            """
            salloc -Q -N 3 -n 6 sh -ec "
            trireme run -n 6 -N 3 tiny:1 /bin/where; echo second; trireme run -n 3 -N 3 tiny:1 /bin/where; \(whatStays)"
            """)
        #expect(run.status == 0, "\(run.errorText)")
        let parts = run.lines.split(separator: "second", maxSplits: 1).map(Array.init)
        #expect(
            parts.count == 2 && parts[0].sorted() == ["n1 0", "n1 1", "n2 2", "n2 3", "n3 4", "n3 5"], "\(run.lines)")
        #expect(parts.last?.sorted() == ["n1 0", "n2 1", "n3 2", "none", "none", "none"], "\(run.lines)")
        // The second job finds it there.
        let words = run.errorText.split(separator: "\n").filter { $0.contains("tiny:1") }
        #expect(
            words.count == 2 && words[0].hasSuffix("tiny:1 is not on n[1-3]: bringing it there"), "\(run.errorText)")
        #expect(words.last?.contains("tiny:1: on 3 more nodes after") == true)
        // The batch script's own node has it, the others not; ranks that Slurm starts join what the agents made.
        let batch = try script(
            """
            srun -N 3 -n 3 --ntasks-per-node=1 sh -c '[ $SLURMD_NODENAME = n1 ] || rm -rf /tmp/own'
            salloc -Q -N 3 srun -N 1 -n 1 -w n1 trireme run -n 3 -N 3 --model rank tiny:1 /bin/where
            """)
        #expect(
            batch.status == 0 && batch.lines.sorted() == ["n1 0", "n2 1", "n3 2"], "\(batch.lines)\(batch.errorText)")
        #expect(batch.errorText.contains("tiny:1 is not on n[2-3]: bringing it there"), "\(batch.errorText)")
        #expect(try jobs.isClean(), "\((try? jobs.leftovers()) ?? [])")
    }

    @Test func aNodeThatCannotHaveItIsNamed() throws {
        let run = try script(
            """
            srun -N 3 -n 3 --ntasks-per-node=1 sh -c 'rm -rf /tmp/own; [ $SLURMD_NODENAME = n2 ] && echo x >/tmp/own || true'
            salloc -Q -N 3 trireme run -n 3 -N 3 tiny:1 /bin/where || echo status $?
            """)
        #expect(run.lines == ["status 125"], "\(run.outputText)")
        #expect(run.errorText.contains("[spread-failed]") && run.errorText.contains("n2: "), "\(run.errorText)")
        #expect(run.errorText.contains("/tmp/own"), "\(run.errorText)")
        #expect(try jobs.isClean(), "\((try? jobs.leftovers()) ?? [])")
    }

    @Test func onePullerTheOthersHaveItFromNodes() throws {
        let run = try script(
            """
            salloc -Q -N 3 sh -ec "
            trireme image spread --to /tmp/spread tiny:1
            srun -N 3 -n 3 --ntasks-per-node=1 env TRIREME_STORE=/tmp/spread TRIREME_RANK=x trireme run tiny:1 /bin/where
            \(whatStays.replacing("own", with: "spread"))
            trireme image spread --to /tmp/spread tiny:1"
            """)
        #expect(run.status == 0, "\(run.errorText)")
        // A container on each node, from that node's own store; nothing of the way it came stays.
        #expect(run.lines.filter { $0.hasSuffix(" x") }.sorted() == ["n1 x", "n2 x", "n3 x"], "\(run.lines)")
        #expect(run.lines.filter { $0 == "none" }.count == 3, "\(run.lines)")
        let origins = run.errorText.split(separator: "\n").filter { $0.contains(": from ") }
        // The first has it from here, the two others from the first; then all have it.
        #expect(origins.prefix(3).filter { $0.contains(": from n1:") }.count == 2, "\(run.errorText)")
        #expect(origins.dropFirst(3).filter { $0.hasSuffix(": from itself") }.count == 3, "\(run.errorText)")
        #expect(try jobs.isClean())
    }
}
