import FoundationEssentials
import ImageFormats
import LaunchPlan
import OCIModel

/// An image in apptainer's layout: environment scripts, runscript and labels below `/.singularity.d`
/// (apptainer's user guide, "The Definition File"; images before Singularity 2.3 have `/environment` and `/singularity`).
package enum ApptainerImage {
    /// The ENTRYPOINT that says so of an image that has a configuration: docker runs it, and for a launch here it
    /// stands for the scripts and the runscript (`ContainerLaunch.EnvironmentScripts`).
    static let runAction = "/.singularity.d/actions/run"

    /// Makes `plan` one that reads the scripts, where `tree` has the layout and nobody configured anything else.
    static func complete(_ plan: inout LaunchPlan, _ execution: ImageConfiguration.Execution, in tree: MergedTree) {
        let isMarked = execution.entrypoint == [runAction]
        let isUnsaid = plan.entrypoint.isEmpty && plan.command.isEmpty && plan.environment.isEmpty
        guard isMarked || isUnsaid, hasLayout(tree) else { return }
        for entry in exports(tree) where !plan.environment.contains(where: { name($0) == name(entry) }) {
            plan.environment.append(entry)
        }
        if tree.find("/bin/sh")?.isExecutable == true || tree.find("/bin/bash")?.isExecutable == true {
            plan.options.insert(.environmentScripts)
            plan.entrypoint = [Array(runAction.utf8)]
            return
        }
        // No shell to read a script with: what apptainer wrote of docker's configuration is enough.
        let script = text("/.singularity.d/runscript", tree)
        let entrypoint = script.flatMap { words(of: "OCI_ENTRYPOINT", in: $0) } ?? []
        let command = script.flatMap { words(of: "OCI_CMD", in: $0) } ?? []
        plan.entrypoint = entrypoint
        plan.command = command
        if entrypoint.isEmpty, command.isEmpty, tree.find("/.singularity.d/runscript")?.isExecutable == true {
            plan.entrypoint = [Array("/.singularity.d/runscript".utf8)]
        }
    }

    /// The names by which programs learn in which image they run.
    static func name(_ typed: String, real: String, in plan: inout LaunchPlan) {
        guard plan.options.contains(.environmentScripts) else { return }
        let last = typed.split(separator: "/").last.map(String.init) ?? typed
        for prefix in ["APPTAINER", "SINGULARITY"] {
            plan.environment.append(Array("\(prefix)_NAME=\(last)".utf8))
            plan.environment.append(Array("\(prefix)_CONTAINER=\(real)".utf8))
        }
    }

    /// Whether `entry` is one of `name`'s: true of the file that was named, not of a copy.
    package static func isName(_ entry: [UInt8]) -> Bool {
        ["APPTAINER", "SINGULARITY"].contains { prefix in
            entry.starts(with: "\(prefix)_NAME=".utf8) || entry.starts(with: "\(prefix)_CONTAINER=".utf8)
        }
    }

    /// The image's labels (`labels.json`), for its configuration.
    package static func labels(_ tree: MergedTree) -> [String: String]? {
        guard hasLayout(tree), let bytes = tree.contents(of: "/.singularity.d/labels.json") else { return nil }
        return try? JSONDecoder().decode([String: String].self, from: Data(bytes))
    }

    private static func hasLayout(_ tree: MergedTree) -> Bool {
        if tree.find("/.singularity.d/env")?.isDirectory == true { return true }
        if tree.find("/.singularity.d/runscript")?.isExecutable == true { return true }
        return tree.find("/environment")?.isFile == true && tree.find("/singularity")?.isExecutable == true
    }

    private static func text(_ path: String, _ tree: MergedTree) -> String? {
        tree.contents(of: path, limit: 1 << 20).map { String(decoding: $0, as: UTF8.self) }
    }

    private static func name(_ entry: [UInt8]) -> ArraySlice<UInt8> { entry.prefix { $0 != UInt8(ascii: "=") } }

    /// docker's ENV as apptainer writes it, `export K="V"` or `export K="${K:-"V"}"`, where V needs no shell.
    private static func exports(_ tree: MergedTree) -> [[UInt8]] {
        let script = text("/.singularity.d/env/10-docker2singularity.sh", tree) ?? ""
        return script.split(separator: "\n").compactMap { line in
            guard line.hasPrefix("export "), let equals = line.firstIndex(of: "=") else { return nil }
            let key = line[..<equals].dropFirst("export ".count)
            var value = line[line.index(after: equals)...]
            let isDefault = value.hasPrefix("\"${\(key):-") && value.hasSuffix("}\"")
            if isDefault { value = value.dropFirst("\"${\(key):-".count).dropLast(2) }
            guard let words = ShellWords.plain(value), words.count <= 1 else { return nil }
            return Array("\(key)=".utf8) + (words.first ?? [])
        }
    }

    /// The words that the runscript's `NAME='…'` holds.
    private static func words(of name: String, in script: String) -> [[UInt8]]? {
        guard let line = script.split(separator: "\n").first(where: { $0.hasPrefix("\(name)='") && $0.hasSuffix("'") })
        else { return nil }
        let words = ShellWords.plain(line.dropFirst(name.count + 2).dropLast())
        return words?.isEmpty == true ? nil : words
    }
}

/// Words in a shell's quotes, nil where a shell would have more to do with them.
private enum ShellWords {
    static func plain(_ text: Substring) -> [[UInt8]]? {
        var result: [[UInt8]] = []
        var word: [UInt8]?
        var quote: UInt8?
        var bytes = Array(text.utf8)[...]
        while let byte = bytes.popFirst() {
            switch (byte, quote) {
            case (UInt8(ascii: "'"), UInt8(ascii: "'")), (UInt8(ascii: "\""), UInt8(ascii: "\"")): quote = nil
            case (_, UInt8(ascii: "'")): word = (word ?? []) + [byte]
            case (UInt8(ascii: "$"), _), (UInt8(ascii: "`"), _): return nil
            case (UInt8(ascii: "\\"), _):
                guard let next = bytes.popFirst() else { return nil }
                word = (word ?? []) + [next]
            case (UInt8(ascii: "'"), nil), (UInt8(ascii: "\""), nil):
                quote = byte
                word = word ?? []
            case (UInt8(ascii: " "), nil):
                if let done = word { result.append(done) }
                word = nil
            default: word = (word ?? []) + [byte]
            }
        }
        guard quote == nil else { return nil }
        return result + (word.map { [$0] } ?? [])
    }
}
