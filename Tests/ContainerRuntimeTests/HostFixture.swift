import ContainerRuntime
import Foundation
import ImageFormats
import TestSupport

/// A made-up host (or image): libraries by the C compiler, a loader cache by ldconfig, device nodes as files.
struct HostFixture {
    static let libraries = "/usr/lib/x86_64-linux-gnu"
    let tree: Tree
    var path: String { tree.root }

    init() throws {
        tree = try Tree()
        try FileManager.default.createDirectory(
            atPath: path + Self.libraries, withIntermediateDirectories: true)
        try FileManager.default.createDirectory(atPath: path + "/etc", withIntermediateDirectories: true)
    }

    func host(first: [String] = []) throws -> HostLibraries {
        HostLibraries(root: try HostRoot(path), first: first, extra: NvidiaDriver.libraryDirectories)
    }
    func image() throws -> ImageLibraries { ImageLibraries(try tree.merged()) }

    /// A library at `file` with a link by its soname, as a distribution installs it.
    ///
    /// - Parameters:
    ///   - needs: sonames of libraries made before in the same directory.
    ///   - glibc: the symbol version it asks of libc.so.6.
    func library(
        _ file: String, soname: String, in directory: String = libraries, needs: [String] = [], glibc: String? = nil
    ) throws {
        let place = path + directory
        try FileManager.default.createDirectory(atPath: place, withIntermediateDirectories: true)
        var source = "int \(Self.symbol(soname))(void){return 0;}\n"
        var extra: [String] = []
        let scratch = try TemporaryDirectory()
        if let glibc {
            try Self.compile(
                "int future(void){return 1;}\n", ["-Wl,-soname,libc.so.6", "-Wl,--version-script,\(scratch.path)/map"],
                to: scratch.path + "/libc.so.6",
                files: ["\(scratch.path)/map": "\(glibc) { global: future; local: *; };\n"])
            source += "int future(void);int use(void){return future();}\n"
            extra.append(scratch.path + "/libc.so.6")
        }
        extra += needs.map { "\(place)/\($0)" }
        try Self.compile(source, ["-Wl,-soname,\(soname)", "-Wl,--no-as-needed"] + extra, to: "\(place)/\(file)")
        if file != soname { try link("\(directory)/\(soname)", file) }
    }

    /// An image's C library of this release.
    func cLibrary(_ versions: [String]) throws {
        let map = versions.enumerated().map { index, version in
            "\(version) { global: f\(index); };"
        }.joined(separator: "\n")
        let source = versions.indices.map { "int f\($0)(void){return 0;}" }.joined(separator: "\n")
        try Self.compile(
            source, ["-Wl,-soname,libc.so.6", "-Wl,--version-script,\(path)/map"],
            to: path + Self.libraries + "/libc.so.6", files: ["\(path)/map": map])
    }

    func link(_ place: String, _ target: String) throws {
        try? FileManager.default.removeItem(atPath: path + place)
        try FileManager.default.createSymbolicLink(atPath: path + place, withDestinationPath: target)
    }

    func file(_ place: String, _ text: String = "", executable: Bool = false) throws {
        try tree.write(String(place.dropFirst()), Data(text.utf8), executable: executable)
    }

    /// ldconfig(8) on this tree; without root it does not change its root but goes below it.
    func makeCache(format: String = "new") throws {
        try file("/etc/ld.so.conf", Self.libraries + "\n")
        try runProgram(["/sbin/ldconfig", "-r", path, "-X", "-c", format, "-f", "/etc/ld.so.conf"])
    }

    /// A driver of two GPUs.
    func driver(_ version: String = "550.54.14") throws {
        for (name, major) in [("libcuda", 1), ("libnvidia-ml", 1), ("libnvidia-ptxjitcompiler", 1)] {
            try library("\(name).so.\(version)", soname: "\(name).so.\(major)")
        }
        try link(Self.libraries + "/libcuda.so", "libcuda.so.1")
        for node in ["nvidiactl", "nvidia-uvm", "nvidia0", "nvidia1", "nvidia-caps/nvidia-cap1"] {
            try file("/dev/" + node)
        }
        try file("/usr/bin/nvidia-smi", "#!/bin/sh\necho fake\n", executable: true)
        try file(
            "/proc/driver/nvidia/version",
            "NVRM version: NVIDIA UNIX x86_64 Kernel Module  \(version)  Thu Feb 22 01:44:30 UTC 2024\nGCC version: 12\n"
        )
        for gpu in 0...1 {
            try file(
                "/proc/driver/nvidia/gpus/0000:0\(gpu):00.0/information",
                "Model: \t\t Fake\nIRQ:   \t\t 7\nGPU UUID: \t GPU-\(gpu)0000000-aaaa\nDevice Minor: \t \(gpu)\n")
        }
    }

    private static func symbol(_ soname: String) -> String {
        "f_" + soname.map { $0.isLetter ? String($0) : "_" }.joined()
    }

    private static func compile(_ source: String, _ options: [String], to output: String, files: [String: String] = [:])
        throws
    {
        for (name, text) in files { try Data(text.utf8).write(to: URL(fileURLWithPath: name)) }
        let run = try runProgram(
            ["cc", "-shared", "-fPIC", "-nostdlib", "-x", "c", "-", "-x", "none", "-o", output] + options,
            input: Data(source.utf8))
        if run.status != 0 { throw Failed(what: run.errorText) }
    }
    struct Failed: Error { var what: String }
}
