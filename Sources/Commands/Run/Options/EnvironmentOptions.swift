import ArgumentParser
import ContainerLaunch
import ContainerRuntime
import Diagnostics
import Glibc
import LaunchPlan
import Processes

/// Environment: which variables the application finds.
struct EnvironmentOptions: ContainerOptionGroup {
    static let longNames = ["--env", "--env-file", "--env-from-host", "--clean-env"]

    @Option(
        name: [.customShort("e"), .customShort("x"), .long], parsing: .unconditionalSingleValue,
        help: ArgumentHelp("Set a variable, or pass the caller's.", valueName: "k=v|k"))
    var env: [String] = []
    @Option(help: ArgumentHelp("Variables from a file, one per line, as docker reads it.", valueName: "file"))
    var envFile: [String] = []
    @Option(help: ArgumentHelp("The caller's value wins over the image's; NAME may hold * and ?.", valueName: "name,…"))
    var envFromHost: [String] = []
    @Flag(help: "Pass nothing of the caller's environment.") var cleanEnv = false

    /// Of a further part of a job, before its `-e` are added.
    static var none: EnvironmentOptions {
        var options = EnvironmentOptions()
        options.env = []
        options.envFile = []
        options.envFromHost = []
        options.cleanEnv = false
        return options
    }

    func apply(to plan: inout LaunchPlan, in context: LaunchContext) throws(Diagnostic) {
        if cleanEnv || ForeignVariables.honouredOptions.contains(.cleanEnvironment) {
            plan.options.insert(.cleanEnvironment)
        }
        plan.overrides += try entries()
    }

    /// What was asked for, weakest first: patterns, files, then single variables.
    func entries() throws(Diagnostic) -> [[UInt8]] {
        let host = EnvironmentBlock.current()
        var entries: [[UInt8]] = []
        for list in envFromHost {
            for pattern in list.split(separator: ",") {
                entries += EnvironmentText.matching(String(pattern), in: host)
            }
        }
        for path in envFile { entries += try EnvironmentText.file(path, host: host) }
        for text in env {
            let bytes = CallerArguments.typed(text, after: ["-e", "-x", "--env"])
            guard let first = bytes.first, first != UInt8(ascii: "=") else {
                throw Diagnostic(
                    DiagnosticCode("usage"), text, reasons: ["not a variable"],
                    remedies: ["write -e NAME=VALUE, or -e NAME for the value it has here"])
            }
            if bytes.contains(UInt8(ascii: "=")) {
                entries.append(bytes)
            } else if let entry = EnvironmentText.entry(bytes, in: host) {
                entries.append(entry)
            }
        }
        return entries
    }
}
