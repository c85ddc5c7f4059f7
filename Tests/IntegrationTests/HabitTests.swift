import Foundation
import TestSupport
import Testing

/// What fingers type that know docker or apptainer.
@Suite struct HabitTests {
    @discardableResult
    private func cli(_ words: String..., store: String = "/nonexistent/store") throws -> ProgramRun {
        try runProgram(
            [try Programs.path("trireme")] + words, environment: ["TRIREME_STORE": store], limitSeconds: 60)
    }

    @Test("What the parser refuses is said as everything else: one line with a code, hints, status 125")
    func oneStyle() throws {
        for words in [
            ["image", "ls", "--nope"], ["image", "tag"], ["cluster", "create", "--nodes", "many"], ["--nope"],
        ] {
            let run = try runProgram([try Programs.path("trireme")] + words)
            #expect(run.status == 125)
            let lines = run.errorText.split(separator: "\n")
            #expect(
                lines.first?.hasPrefix("trireme: ") == true && lines.first?.hasSuffix(" [usage]") == true, "\(lines)")
            #expect(lines.dropFirst().allSatisfy { $0.hasPrefix("  hint: ") }, "\(lines)")
            #expect(lines.last?.hasSuffix("--help") == true && run.outputText.isEmpty)
        }
        let load = try cli("load", "x.tar")
        #expect(load.status == 125 && load.errorText.contains("trireme load -i x.tar"), "\(load.errorText)")
    }

    @Test("image inspect has docker's --format")
    func inspectFormat() throws {
        let store = try HandmadeStore()
        try store.write("rootfs/etc/marker", "first")
        let file = store.directory.path + "/x.sqfs"
        #expect(try cli("image", "convert", store.path + "/rootfs", file, store: store.path).status == 0)
        #expect(
            try cli("image", "import", "-c", "CMD [\"a\", \"b\"]", file, "lab/x", store: store.path).status == 0)
        let shape = try cli(
            "image", "inspect", "-f", "{{.Name}} {{.Config.Cmd}} {{json .Config}}", "lab/x", store: store.path)
        #expect(
            shape.outputText == "lab/x:latest [a b] {\"Cmd\":[\"a\",\"b\"]}\n", "\(shape.outputText)\(shape.errorText)")
        let wrong = try cli("image", "inspect", "-f", "{{.Nope}}", "lab/x", store: store.path)
        #expect(wrong.status == 125 && wrong.errorText.contains("[usage]"))
    }
}
