import ContainerRuntime
import Foundation
import ImageStore
import TestSupport
import Testing

/// Images put together from this machine's own MPI libraries and programs made by their own compilers.
@Suite(
    .enabled(
        if: FileManager.default.fileExists(atPath: "/usr/bin/mpicc.openmpi")
            && FileManager.default.fileExists(atPath: "/usr/bin/mpicc.mpich")))
struct MPIDetectionTests {
    private static let libraries = "/usr/lib/" + (try! runProgram(["gcc", "-print-multiarch"]).lines[0])

    private func image(openMPI: Bool, mpich: Bool) throws -> Tree {
        let tree = try Tree()
        var files: [(String, String)] = []
        func library(_ soname: String) {
            let path = MPIDetectionTests.libraries + "/" + soname
            files.append((path, (path as NSString).resolvingSymlinksInPath))
        }
        if openMPI {
            library("libmpi.so.40")
            library("libopen-rte.so.40")
            for name in ["orted", "mpirun.openmpi"] { files.append(("/usr/bin/" + name, "/usr/bin/" + name)) }
        }
        if mpich {
            library("libmpich.so.12")
            for name in ["mpiexec.hydra", "hydra_pmi_proxy"] { files.append(("/usr/bin/" + name, "/usr/bin/" + name)) }
        }
        for (path, source) in files {
            let real = (source as NSString).resolvingSymlinksInPath
            let data = try Data(contentsOf: URL(fileURLWithPath: real))
            // As in a distribution: the file by its full version, the soname a link.
            let name = (real as NSString).lastPathComponent
            let place = (path as NSString).deletingLastPathComponent + "/" + name
            try tree.write(String(place.dropFirst()), data, executable: true)
            if place != path {
                try? FileManager.default.createSymbolicLink(atPath: tree.root + path, withDestinationPath: name)
            }
        }
        let source = tree.root + "/p.c"
        try "#include <mpi.h>\nint main(int c,char**v){MPI_Init(&c,&v);return MPI_Finalize();}".write(
            toFile: source, atomically: false, encoding: .utf8)
        for (compiler, name) in [("mpicc.openmpi", "with-openmpi"), ("mpicc.mpich", "with-mpich")] {
            #expect(try runProgram([compiler, source, "-o", tree.root + "/" + name]).status == 0)
        }
        try tree.write("script", Data("#!/bin/sh\nexec /with-mpich\n".utf8), executable: true)
        return tree
    }

    @Test func findsBoth() throws {
        let files = try image(openMPI: true, mpich: true)
        defer { withExtendedLifetime(files) {} }
        let tree = try files.merged()
        let found = MPIDetection.installations(in: tree)
        #expect(found.map(\.family) == [.openMPI, .mpich])
        #expect(found[0].major == 4)
        #expect(found[0].launcher == "/usr/bin/mpirun.openmpi")
        #expect(found[0].daemon == "/usr/bin/orted")
        #expect(found[1].launcher == "/usr/bin/mpiexec.hydra")
        #expect(found[1].daemon == "/usr/bin/hydra_pmi_proxy")
        func flavour(_ command: String) -> MPIFlavour? {
            MPIDetection.detect(
                installations: found, in: ContainerFiles(tree), command: command, path: ["/", "/usr/bin"])?.flavour
        }
        #expect(flavour("/with-openmpi") == .openMPI(major: 4))
        #expect(flavour("with-mpich") == .mpich)
        #expect(flavour("mpirun.openmpi") == .openMPI(major: 4))
        #expect(flavour("/script") == nil, "a script does not tell which of two")
        #expect(flavour("/missing") == nil)
    }

    @Test func theOnlyOneIsIt() throws {
        let files = try image(openMPI: false, mpich: true)
        defer { withExtendedLifetime(files) {} }
        let tree = try files.merged()
        let found = MPIDetection.installations(in: tree)
        #expect(found.map(\.family) == [.mpich])
        let script = MPIDetection.detect(
            installations: found, in: ContainerFiles(tree), command: "/script", path: [])
        #expect(script?.flavour == .mpich)
        let empty = try Tree()
        #expect(MPIDetection.installations(in: try empty.merged()).isEmpty)
        withExtendedLifetime(empty) {}
    }

    /// What a user compiled lies in a directory of the host's that the container shows.
    @Test func programsOfTheHostTell() throws {
        let files = try image(openMPI: true, mpich: true)
        let host = try image(openMPI: false, mpich: true)
        defer { withExtendedLifetime((files, host)) {} }
        try FileManager.default.removeItem(atPath: files.root + "/with-mpich")
        let tree = try files.merged()
        let found = MPIDetection.installations(in: tree)
        let shown = ContainerFiles(
            tree,
            covers: [
                .init(destination: "/project", source: host.root), .init(destination: "/project/hidden", source: nil),
                .init(destination: "/one", source: host.root + "/with-mpich"),
            ], directory: "/project/sub")
        func flavour(_ command: String) -> MPIFlavour? {
            MPIDetection.detect(installations: found, in: shown, command: command, path: ["/usr/bin"])?.flavour
        }
        #expect(flavour("/project/with-mpich") == .mpich && flavour("/one") == .mpich)
        #expect(flavour("../with-mpich") == .mpich && flavour("./..//with-openmpi") == .openMPI(major: 4))
        #expect(flavour("/with-openmpi") == .openMPI(major: 4), "the image's own")
        for other in ["with-mpich", "/with-mpich", "/project/hidden/with-mpich", "/projectwith-mpich", "/project"] {
            #expect(flavour(other) == nil, "\(other)")
        }
    }

    @Test func damagedProgramsAreNoPrograms() throws {
        let program = try Data(contentsOf: URL(fileURLWithPath: "/usr/bin/env"))
        #expect(DynamicSection(Array(program))?.needed.contains("libc.so.6") == true)
        for length in [0, 3, 64, 200, program.count / 8] { _ = DynamicSection(Array(program.prefix(length))) }
        var generator = SystemRandomNumberGenerator()
        for _ in 0..<300 {
            var bytes = Array(program.prefix(8192))
            for _ in 0..<8 {
                bytes[Int.random(in: 4..<1024, using: &generator)] = .random(in: .min ... .max, using: &generator)
            }
            _ = DynamicSection(bytes)
        }
    }
}
