import Foundation
import LaunchPlan
import Testing

@testable import ContainerLaunch

/// The table of other tools' variables, by itself and as the manual has it.
@Suite struct ForeignVariableTableTests {
    private static let words: [ForeignVariables.Answer: String] = [
        .honoured: "honoured", .launch: "named by run, exec, shell", .transfer: "named by pull, push",
        .holds: "holds anyway",
    ]

    private static func line(_ row: ForeignVariables.Row) -> String {
        let prefix = row.tool == .docker ? "DOCKER_" : "APPTAINER_"
        let ours = "\(row.ours)".replacingOccurrences(of: "|", with: "\\|")
        return "| `\(prefix)\(row.name)` | \(words[row.answer] ?? "?") | \(ours) |"
    }

    @Test("The manual's page is the table, row by row")
    func page() throws {
        let page =
            URL(fileURLWithPath: #filePath).deletingLastPathComponent().path
            + "/../../Documentation/Reference/foreign-variables.md"
        let lines = try String(contentsOfFile: page, encoding: .utf8).split(separator: "\n").map(String.init)
        #expect(lines.filter { $0.hasPrefix("| `") } == ForeignVariables.table.map(Self.line))
    }

    @Test("Each variable is in the table once")
    func once() {
        let names = ForeignVariables.table.map { "\($0.tool) \($0.name)" }
        #expect(Set(names).count == names.count)
    }

    private func survey(_ entries: [String], for verb: ForeignVariables.Answer = .launch) -> ForeignSurvey {
        var block = entries.map { strdup($0) } + [nil]
        return block.withUnsafeMutableBufferPointer { ForeignSurvey(UnsafePointer($0.baseAddress!), for: verb) }
    }

    private func notice(_ entries: [String], for verb: ForeignVariables.Answer = .launch) -> String? {
        survey(entries, for: verb).notice.map { String(cString: $0) }
    }

    @Test("Every variable that does nothing here is named with what does, by both of its names, and no other is")
    func named() throws {
        for row in ForeignVariables.table {
            let prefixes = row.tool == .docker ? ["DOCKER_"] : ["APPTAINER_", "SINGULARITY_"]
            let value = row.option == .flag ? "true" : row.option == .elsewhere ? "ssh://other" : "x"
            for prefix in prefixes {
                for verb in [ForeignVariables.Answer.launch, .transfer] {
                    let said = notice(["PATH=/bin", "\(prefix)\(row.name)=\(value)", "A=1"], for: verb)
                    let expected =
                        row.answer == verb
                        ? "variables of other tools that do nothing here: \(prefix)\(row.name) (\(row.ours))" : nil
                    #expect(said == expected, "\(prefix)\(row.name)")
                }
            }
        }
    }

    @Test(
        "What asks for nothing is not named",
        arguments: [
            "APPTAINER_NV=0", "APPTAINER_NV=false", "SINGULARITY_NV=F", "APPTAINER_NV=", "APPTAINER_HOME=",
            "APPTAINER_VERSION=1.3", "APPTAINERENV_NV=1", "DOCKER_HOST=unix:///run/docker.sock",
            "DOCKER_CONTEXT=default",
            "DOCKER_BUILDKIT=1", "NV=1", "MY_APPTAINER_NV=1", "SINGULARITY_NVX=1",
        ])
    func silent(entry: String) { #expect(notice([entry]) == nil) }

    @Test("Several are one line") func together() {
        #expect(
            notice(["APPTAINER_NV=1", "X=y", "SINGULARITY_OVERLAY=o"])
                == "variables of other tools that do nothing here: APPTAINER_NV (--nv), SINGULARITY_OVERLAY (--overlay DIR)"
        )
    }

    @Test("Switches that are honoured") func switches() {
        #expect(
            survey(["SINGULARITY_CLEANENV=1", "APPTAINER_WRITABLE_TMPFS=yes"]).options == [
                .cleanEnvironment, .writable,
            ])
        #expect(survey(["SINGULARITY_CLEANENV=0", "APPTAINER_WRITABLE_TMPFS=False"]).options == [])
    }
}
