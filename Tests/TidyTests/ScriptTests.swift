import Foundation
import TestSupport
import Testing

/// What the scripts of the first minutes say when they cannot go on.
@Suite struct ScriptTests {
    private let directory: TemporaryDirectory
    init() throws { directory = try TemporaryDirectory() }

    private func script(_ name: String) -> String { SourceTree.root + "/Scripts/" + name }

    @Test func aRecipesFolderHoldsFilesOnly() throws {
        try FileManager.default.createDirectory(
            atPath: directory.path + "/data", withIntermediateDirectories: true)
        try Data("image x:1\n".utf8).write(to: URL(fileURLWithPath: directory.path + "/x.recipe"))
        let run = try runProgram([script("build-image"), directory.path + "/x.recipe", directory.path + "/x.tar"])
        #expect(run.status == 1)
        #expect(
            run.errorText.hasPrefix("build-image: ") && run.errorText.contains("holds a folder, data"),
            "\(run.errorText)")
    }

    /// On a fresh machine there are no package lists to install from.
    @Test func thePackagesLineForRootFetchesTheListsFirst() throws {
        for (name, text) in [("dpkg-query", "exit 1"), ("swift", ""), ("id", "echo 1000")] {
            let path = directory.path + "/" + name
            try Data("#!/bin/sh\n\(text)\n".utf8).write(to: URL(fileURLWithPath: path))
            try FileManager.default.setAttributes([.posixPermissions: 0o755], ofItemAtPath: path)
        }
        let run = try runProgram(
            ["/bin/bash", script("install-dependencies")], environment: ["PATH": directory.path])
        let lines = run.errorText.split(separator: "\n").map { $0.trimmingCharacters(in: .whitespaces) }
        #expect(run.status == 1)
        #expect(lines.last?.hasPrefix("apt-get update && apt-get install ") == true, "\(run.errorText)")
    }
}
