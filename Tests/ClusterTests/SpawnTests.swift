import Foundation
import TestSupport
import Testing

/// Ranks that start further ranks, and options of the user's own for the launcher that starts them.
@Suite(.serialized) struct SpawnTests {
    static let hasCompiler = FileManager.default.fileExists(atPath: "/usr/bin/mpicc.openmpi")

    /// Spawns as many as it is told, meets them, and counts everybody.
    private static let source = """
        #include <mpi.h>
        #include <stdio.h>
        #include <stdlib.h>
        int main(int argc, char **argv)
        {
            MPI_Comm parent, children, all;
            int rank, own, sum = 0, one = 1, length;
            char host[MPI_MAX_PROCESSOR_NAME];
            MPI_Init(&argc, &argv);
            MPI_Get_processor_name(host, &length);
            MPI_Comm_rank(MPI_COMM_WORLD, &own);
            MPI_Comm_get_parent(&parent);
            if (parent == MPI_COMM_NULL) {
                MPI_Comm_spawn(argv[0], MPI_ARGV_NULL, atoi(argv[1]), MPI_INFO_NULL, 0, MPI_COMM_WORLD, &children,
                               MPI_ERRCODES_IGNORE);
                MPI_Intercomm_merge(children, 0, &all);
            } else {
                MPI_Intercomm_merge(parent, 1, &all);
            }
            MPI_Comm_rank(all, &rank);
            MPI_Allreduce(&one, &sum, 1, MPI_INT, MPI_SUM, all);
            printf("%s %d on %s of %d\\n", parent == MPI_COMM_NULL ? "parent" : "child", own, host, sum);
            fflush(stdout);
            MPI_Comm_free(&all);
            MPI_Comm_disconnect(parent == MPI_COMM_NULL ? &children : &parent);
            MPI_Finalize();
            return 0;
        }
        """

    private func compiled(in directory: String) throws -> String {
        try FileManager.default.createDirectory(atPath: directory, withIntermediateDirectories: true)
        let file = directory + "/spawn.c"
        try Data(Self.source.utf8).write(to: URL(fileURLWithPath: file))
        let run = try runProgram(["mpicc.openmpi", "-o", directory + "/spawn", file])
        try #require(run.status == 0, "\(run.errorText)")
        return directory + "/spawn"
    }

    /// Open MPI 4.1, and 5 where there is an image of it.
    private static let images =
        [JobFixture.openMPI] + (LaunchMatrix.isFull && LaunchMatrix.hasOpenMPI5 ? [JobFixture.openMPI + "5"] : [])

    @Test(.enabled(if: hasCompiler, "no Open MPI on this host"), arguments: images)
    func spawnedRanksFindRoom(_ image: String) throws {
        let fixture = try JobFixture(nodes: 2, cpus: 4)
        let directory = NSHomeDirectory() + "/spawn.\(getpid())"
        defer { try? FileManager.default.removeItem(atPath: directory) }
        let program = try compiled(in: directory)
        // Options, how many are spawned, where the parents are. One node has room for three beside a parent, so
        // that four are on both: begun at the node of the last parent, they would not find each other. Not with 5:
        // it binds what is spawned, to more cores than a small machine has, and its daemons may end (PMIX_ERROR).
        let jobs = [
            ("-n 2 -N 2", 1, ["n1", "n2"]), ("-n 2 -N 2", 2, ["n1", "n2"]), ("-n 2 -N 2", 4, ["n1", "n2"]),
            ("-n 2 -N 2", 6, ["n1", "n2"]), ("-n 3 -N 2", 4, ["n1", "n1", "n2"]), ("-n 1 -N 1", 1, ["n1"]),
            ("-n 1 -N 1", 2, ["n1"]), ("-n 2 -N 1", 2, ["n1", "n1"]), ("-n 5", 3, ["n1", "n1", "n1", "n1", "n2"]),
        ].filter { image == JobFixture.openMPI || $0.1 < 3 }
        let lines = jobs.map { options, children, _ in
            "timeout 60 trireme run \(options) \(image) \(program) \(children) </dev/null; echo \"status $?\""
        }
        let run = try fixture.script("salloc -Q -N 2 -n 8 sh -c '\(lines.joined(separator: "\n"))'")
        var said = run.lines[...]
        for (options, children, places) in jobs {
            let end = try #require(said.firstIndex { $0.hasPrefix("status") }, "\(run.outputText)\(run.errorText)")
            let all = places.count + children
            let expected = places.enumerated().map { "parent \($0) on \($1) of \(all)" }
            #expect(said[..<end].filter { $0.hasPrefix("parent") }.sorted() == expected, "\(options): \(run.errorText)")
            #expect(said[..<end].filter { $0.hasPrefix("child") && $0.hasSuffix("of \(all)") }.count == children)
            #expect(said[end] == "status 0", "\(options) and \(children): \(run.outputText)\(run.errorText)")
            said = said[(end + 1)...]
        }
        #expect(run.errorText.isEmpty, "\(run.errorText)")
        #expect(try fixture.isClean(nodes: ["ctl", "n1", "n2"]), "\((try? fixture.leftovers(["n1", "n2"])) ?? [])")
    }

    @Test func theLauncherTakesOptionsOfTheUsers() throws {
        let trireme = try Programs.path("trireme")
        func run(_ words: String...) throws -> ProgramRun { try runProgram([trireme, "run", "--rm", "local"] + words) }
        let openMPI = try run(
            "-n", "2", "--mpi-args", "--mca mpi_show_mca_params enviro", "-x", "OMPI_MCA_btl_tcp_links=2", "-x",
            "MINE=yes", JobFixture.openMPI, "sh", "-c",
            "if [ $RANK = 1 ]; then echo $MINE $OMPI_MCA_mpi_show_mca_params; fi")
        #expect(openMPI.lines == ["yes enviro"] || openMPI.outputText.hasPrefix("yes enviro"), "\(openMPI.errorText)")
        let mpich = try run(
            "-n", "2", "--mpi-args", "-prepend-rank", "--mpi-args", "-genv ALSO mine", JobFixture.mpich, "sh", "-c",
            "echo $ALSO")
        #expect(mpich.lines == ["mine", "mine"], "\(mpich.outputText)\(mpich.errorText)")
        for refused in [
            try run("-n", "2", "--launcher", "direct", "--mpi-args", "-x", JobFixture.openMPI, "true"),
            try run("--mpi-args", "-x", JobFixture.openMPI, "true"),
        ] {
            #expect(refused.status == 125 && refused.errorText.contains("no mpirun to give them to"))
        }
        let parts = try run(
            "-n", "1", "-x", "PART=a", JobFixture.openMPI, "sh", "-c", "echo $PART", ":", "-n", "1", "-x", "PART=b",
            JobFixture.openMPI, "sh", "-c", "echo $PART")
        #expect(parts.lines.sorted() == ["a", "b"], "\(parts.errorText)")
    }
}
