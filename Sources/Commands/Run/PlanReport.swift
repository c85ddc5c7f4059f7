import CLinux
import ContainerLaunch
import ContainerRuntime
import Diagnostics
import Glibc
import ImageFormats
import ImageStore
import LaunchPlan
import OCIModel
import Processes

/// `--dry-run` and `--explain`: a launch in words, composed by the code that would do it.
struct PlanReport {
    let image: StoredImage
    let plan: LaunchPlan
    let store: String
    let verb: String
    /// What follows IMAGE.
    let words: [[UInt8]]
    /// Variables of the command line, as the environment options understood them.
    let asked: [[UInt8]]

    func write(_ options: ExplainOptions) throws(Diagnostic) {
        let encoded: [UInt8]
        do throws(LaunchPlanError) { encoded = try plan.encoded() } catch {
            throw Diagnostic(
                DiagnosticCode("option-value"), image.name,
                reasons: ["the options do not fit into a launch plan: \(error)"])
        }
        var text: [UInt8] = []
        if options.explain == .launch {
            text += Array("one process, which this command becomes; -n or -N make it a parallel job\n".utf8)
        }
        if options.dryRun {
            text += Array("image        \(image.name)  \(image.record.manifest.digest)\n".utf8)
            text += try root(encoded)
            text += row("user", caller)
            text += row("directory", startDirectory)
            text += row("command", Array(command.map(Self.quoted).joined(separator: [0x20])))
        }
        if options.dryRun || options.explain == .mounts {
            if options.dryRun { text += Array("mounts\n".utf8) }
            text += try mounts(encoded)
        }
        if options.dryRun || options.explain == .env {
            if options.dryRun { text += Array("environment\n".utf8) }
            text += environment(encoded)
        }
        Output.standard.write(bytes: text)
    }

    private func row(_ name: String, _ value: [UInt8]) -> [UInt8] {
        Array((name + String(repeating: " ", count: max(1, 15 - name.count))).utf8) + value + [0x0A]
    }

    // MARK: Root and command

    private func root(_ encoded: [UInt8]) throws(Diagnostic) -> [UInt8] {
        var kind = "read-only"
        if plan.options.contains(.writable) { kind = "writable, changes vanish" }
        if !plan.overlay.isEmpty { kind = "writable, changes stay in " + String(decoding: plan.overlay, as: UTF8.self) }
        let count = plan.layers.count
        if !plan.imageFile.isEmpty {
            let how = SingleFileImage.serving(plan.imageFile)
            return row("root", Array("\(kind), from a single file, \(how)".utf8))
                + row("", Array(plan.imageFile.utf8))
        }
        return row("root", Array("\(kind), \(count) layer\(count == 1 ? "" : "s")".utf8))
            + plan.layers.flatMap { row("", Array($0.utf8)) }
    }

    private var caller: [UInt8] {
        guard plan.options.contains(.imageUser) else { return Array("\(geteuid()):\(getegid())".utf8) }
        return Array("\(plan.userID ?? 0):\(plan.groupID ?? 0), on the host \(geteuid()):\(getegid())".utf8)
    }

    private var startDirectory: [UInt8] {
        if !plan.workingDirectory.isEmpty { return plan.workingDirectory }
        let directory = getcwd(nil, 0)
        defer { free(directory) }
        return Array(((directory.map { String(cString: $0) } ?? "/") + ", if the container shows it").utf8)
    }

    private var command: [[UInt8]] {
        switch verb {
        case "shell": [Array("/bin/bash".utf8)] + words
        case "exec": words
        default: plan.entrypoint + (words.isEmpty ? plan.command : words)
        }
    }

    // MARK: Mounts

    private func mounts(_ encoded: [UInt8]) throws(Diagnostic) -> [UInt8] {
        var failure: LaunchFailure?
        let shown = encoded.withUnsafeBytes { raw -> [ShownMount] in
            do throws(LaunchFailure) { return try shownMounts(plan: raw, store: store).mounts } catch {
                failure = error
                return []
            }
        }
        if let failure {
            // The launcher's own words, with its hint.
            let said = String(decoding: LaunchDiagnosis(failure, image: failure.subject).text, as: UTF8.self)
            throw PlanReport.diagnostic(saying: said)
        }
        return shown.flatMap { mount -> [UInt8] in
            let source: [UInt8] =
                switch mount.kind {
                case .bind: Self.quoted(mount.source)
                case .fileSystem: Array("new ".utf8) + mount.source
                case .link: Array("link to ".utf8) + mount.source
                case .temporary: Array("tmpfs".utf8) + (mount.source.isEmpty ? [] : [0x20] + mount.source)
                case .stack: Array("image layers ".utf8) + mount.source
                case .image: Array("image ".utf8) + Self.quoted(mount.source)
                case .file: Array("a file made for this container".utf8)
                }
            var traits: [String] = []
            if mount.isReadOnly { traits.append("ro") }
            if mount.isNotExecutable { traits.append("noexec") }
            if mount.isOptional { traits.append("if there") }
            if mount.isUserRequest { traits.append("asked for") }
            let note = traits.isEmpty ? [] : Array("  (\(traits.joined(separator: ", ")))".utf8)
            return [0x20, 0x20] + Self.quoted(mount.destination) + Array("  <-  ".utf8) + source + note + [0x0A]
        }
    }

    static func diagnostic(saying text: String) -> Diagnostic {
        let lines = text.split(separator: "\n").map(String.init)
        var first = lines.first ?? ""
        var code = DiagnosticCode("usage")
        if let open = first.lastIndex(of: "["), first.hasSuffix("]") {
            code = DiagnosticCode(rawValue: String(first[first.index(after: open)...].dropLast()))
            first = String(first[..<open]).trimmingSpaces()
        }
        if first.hasPrefix("trireme: ") { first.removeFirst(9) }
        let hints = lines.dropFirst().map { $0.hasPrefix("  hint: ") ? String($0.dropFirst(8)) : $0 }
        return Diagnostic(code, first, remedies: hints)
    }

    // MARK: Environment

    private func environment(_ encoded: [UInt8]) -> [UInt8] {
        let host = EnvironmentBlock.current()
        let composed = encoded.withUnsafeBytes { composedEnvironment(plan: $0, host: host, overrides: []) }
        var rows: [(who: String, entry: [UInt8])] = []
        // How the launcher tells the image's scripts what wins over them is nothing that the command sees.
        for entry in composed where !entry.starts(with: Array("TRIREME_SCRIPTS=".utf8)) {
            rows.append((origin(of: entry, host), entry))
        }
        rows.sort { $0.entry.lexicographicallyPrecedes($1.entry) }
        let names = Set(composed.map { EnvironmentBlock.name($0) })
        var text: [UInt8] = []
        for (who, entry) in rows { text += row("  " + who, Self.escaped(entry)) }
        if plan.options.contains(.environmentScripts) { text += scripts() }
        if !plan.options.contains(.cleanEnvironment) {
            for entry in host where !names.contains(EnvironmentBlock.name(entry)) && !entry.isForced {
                text += row("  not passed", Self.escaped(entry))
            }
        }
        return text
    }

    /// What an image's environment scripts set is known when they have run: they are programs.
    private func scripts() -> [UInt8] {
        let directory = "/.singularity.d/env"
        let names = (try? image.tree())?.names(in: directory).filter { $0.hasSuffix(".sh") }.sorted() ?? []
        let paths = names.isEmpty ? ["/environment"] : names.map { "\(directory)/\($0)" }
        let note =
            "run at the start, in this order, and may set these anew and others (trireme exec IMAGE env shows them)"
        return row("  scripts", Array(note.utf8)) + paths.flatMap { row("  script", Array($0.utf8)) }
    }

    private func origin(of entry: [UInt8], _ host: [[UInt8]]) -> String {
        if asked.contains(entry) { return "command line" }
        if plan.overrides.contains(entry) { return "options" }
        if host.contains(Array("TRIREMEENV_".utf8) + entry) { return "host, forced" }
        let isHome = entry.starts(with: Array("HOME=".utf8))
        if !isHome, plan.environment.contains(entry) { return "image" }
        return host.contains(entry) ? "host" : "trireme"
    }

    /// A value in one line: control characters and what is not UTF-8 as `\xNN`.
    static func escaped(_ bytes: [UInt8]) -> [UInt8] {
        let isText = String(validating: bytes, as: UTF8.self) != nil
        var text: [UInt8] = []
        for byte in bytes {
            switch byte {
            case 0x0A: text += Array("\\n".utf8)
            case 0x09: text += Array("\\t".utf8)
            case 0x5C: text += Array("\\\\".utf8)
            case 0x20..<0x7F: text.append(byte)
            case 0x80... where isText: text.append(byte)
            default:
                let digits = Array("0123456789abcdef".utf8)
                text += Array("\\x".utf8) + [digits[Int(byte >> 4)], digits[Int(byte & 15)]]
            }
        }
        return text
    }

    /// A word as a POSIX shell would take it.
    static func quoted(_ word: [UInt8]) -> [UInt8] {
        let plain = Set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_@%+=:,./-".utf8)
        if !word.isEmpty, word.allSatisfy({ plain.contains($0) }) { return word }
        return [0x27] + word.flatMap { $0 == 0x27 ? Array("'\\''".utf8) : [$0] } + [0x27]
    }
}

extension [UInt8] {
    /// `TRIREMEENV_NAME=…`, which is passed under its other name.
    fileprivate var isForced: Bool { starts(with: Array("TRIREMEENV_".utf8)) }
}

extension String {
    fileprivate func trimmingSpaces() -> String {
        var text = self[...]
        while text.last == " " { text.removeLast() }
        return String(text)
    }
}
