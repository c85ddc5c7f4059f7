import ArgumentParser
import ContainerRuntime
import Diagnostics
import FoundationEssentials
import HostCheck
import ImageStore
import LinuxSystem
import SiteConfiguration

/// `trireme doctor`: is this host ready, and the fix.
package struct DoctorCommand: ParsableCommand {
    package static let configuration = CommandConfiguration(
        commandName: "doctor", abstract: "Check whether this host is ready, and say what to do where it is not.",
        discussion: "Each facility is really tried. The exit status is 1 when a check fails, 0 otherwise.")

    enum Format: String, ExpressibleByArgument, CaseIterable {
        case table
        case json
    }

    @Option(help: "How to print: table or json.")
    var format: Format = .table

    @Option(help: "Look at this image too: does its MPI fit, can the GPU's libraries be loaded.")
    var image: String?

    package init() {}

    package func run() throws {
        let directory: String
        do { directory = try Locations.programDirectory() } catch {
            throw Diagnostic(
                DiagnosticCode("program-directory"), "trireme", reasons: [error.sentence],
                remedies: ["mount proc on /proc, which tells where trireme is installed"])
        }
        let locations = Locations.current()
        let named = try image.map { try ImageResolver(store: ImageStore(locations)).resolve($0) }
        var facts = HostProbe(locations: locations, programDirectory: directory).facts()
        facts.devices = try DeviceExamination(image: named).facts()
        let report = HostReport(facts)
        switch format {
        case .table: Output.standard.write(report.table)
        case .json: Output.standard.line(try Self.json(report))
        }
        if report.exitStatus != 0 { throw ArgumentParser.ExitCode(report.exitStatus) }
    }

    /// The keys are documented in Documentation/Reference/doctor.md and stay.
    static func json(_ report: HostReport) throws -> String {
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.prettyPrinted, .sortedKeys, .withoutEscapingSlashes]
        return String(decoding: try encoder.encode(DoctorDocument(report)), as: UTF8.self)
    }
}

/// What `trireme doctor --format json` prints.
private struct DoctorDocument: Encodable {
    struct Summary: Encodable {
        var ok: Int
        var warn: Int
        var fail: Int
        var skip: Int
    }
    struct Check: Encodable {
        var check: String
        var level: String
        var fact: String
        var cause: String?
        var fix: String?
    }
    var checks: [Check]
    var summary: Summary

    init(_ report: HostReport) {
        checks = report.findings.map {
            Check(check: $0.check, level: $0.level.rawValue, fact: $0.fact, cause: $0.cause, fix: $0.fix)
        }
        summary = Summary(
            ok: report.count(.ok), warn: report.count(.warn), fail: report.count(.fail), skip: report.count(.skip))
    }
}
