import ArgumentParser
import ContainerRuntime
import Diagnostics
import ImageFormats
import ImageStore
import LinuxSystem
import OCIModel

/// `trireme image lint`
package struct ImageLint: ParsableCommand {
    package static let configuration = CommandConfiguration(
        commandName: "lint",
        abstract: "Look for what a released image should not have: keys, passwords, foreign programs.",
        discussion: "Exit status 1 when there is an error; warnings alone are none.")

    @Option(help: "table, json, jsonl or a template.") var format = RowFormat.table(nil)
    @Argument(help: "The image.") var image: String

    package init() {}

    struct Finding: FormattedRow {
        var level: String
        var rule: String
        var path: String
        var message: String

        static let columns = [("Level", "LEVEL"), ("Rule", "RULE"), ("Path", "PATH"), ("Message", "MESSAGE")].map {
            (field: $0.0, heading: $0.1)
        }
        func text(_ field: String) -> String? {
            switch field {
            case "Level": level
            case "Rule": rule
            case "Path": path
            case "Message": message
            default: nil
            }
        }
    }

    package func run() throws {
        let store = ImageStore.current()
        let found = try ImageResolver(store: store).resolve(image)
        let tree: MergedTree
        do throws(SyscallError) { tree = try MergedTree(Array(found.lowerDirectories.dropFirst())) } catch {
            throw Diagnostic(DiagnosticCode("layer-missing"), found.name, reasons: [error.sentence])
        }
        var inspection = ImageInspection(tree: tree, platform: found.record.platform)
        inspection.lookAtConfiguration(try store.configuration(of: found))
        inspection.lookAtFiles()
        let mpi = found.record.mpi
        if mpi.isEmpty {
            inspection.note("info", "mpi", "", "no MPI was found: ranks start, but do not find each other")
        }
        for one in mpi { inspection.note("info", "mpi", one.library, "\(one.family.rawValue) \(one.major)") }
        try Output.standard.rows(inspection.findings, as: format)
        if inspection.findings.contains(where: { $0.level == "error" }) { throw ExitCode(1) }
    }
}

/// The rules of `image lint`, one image.
struct ImageInspection {
    let tree: MergedTree
    let platform: Platform
    private(set) var findings: [ImageLint.Finding] = []
    /// ld.so.conf(5)
    private var configured: [String] = []

    private enum Limit {
        static let files = 200_000
        static let depth = 40
        /// Bytes of a file that are looked at.
        static let head = 4096
        static let program = 64 << 20
        static let missing = 20
    }

    init(tree: MergedTree, platform: Platform) {
        self.tree = tree
        self.platform = platform
        for name in ["/etc/ld.so.conf"] + tree.names(in: "/etc/ld.so.conf.d").map({ "/etc/ld.so.conf.d/" + $0 }) {
            let text = String(decoding: tree.contents(of: name) ?? [], as: UTF8.self)
            configured += text.split(separator: "\n").filter { $0.hasPrefix("/") }.map(String.init)
        }
    }

    mutating func note(_ level: String, _ rule: String, _ path: String, _ message: String) {
        findings.append(ImageLint.Finding(level: level, rule: rule, path: path, message: message))
    }

    mutating func lookAtConfiguration(_ configuration: ImageConfiguration) {
        let words = ["PASSWORD", "PASSWD", "SECRET", "TOKEN", "API_KEY", "PRIVATE_KEY", "ACCESS_KEY"]
        for entry in configuration.config?.environment ?? [] {
            let name = String(entry.prefix { $0 != "=" })
            guard entry.count > name.count + 1, words.contains(where: { name.uppercased().contains($0) }) else {
                continue
            }
            note("error", "password", "ENV \(name)", "a variable of this name has a value, and everybody can read it")
        }
        let execution = configuration.config
        if (execution?.entrypoint ?? []).isEmpty, (execution?.command ?? []).isEmpty {
            note("warning", "command", "", "neither ENTRYPOINT nor CMD: 'run' needs a command")
        }
    }

    mutating func lookAtFiles() {
        var pending: [(path: String, depth: Int)] = [("", 0)]
        var count = 0
        while let (directory, depth) = pending.popLast() {
            for name in tree.names(in: directory) {
                let path = directory + "/" + name
                guard let node = tree.find(path, followingLast: false) else { continue }
                count += 1
                guard count <= Limit.files else {
                    return note("warning", "size", "", "more than \(Limit.files) files; the rest was not looked at")
                }
                if node.isDirectory, depth < Limit.depth {
                    pending.append((path, depth + 1))
                } else if node.isFile {
                    look(at: path, name, node)
                }
            }
        }
    }

    private static let secretNames: Set<String> = [
        ".netrc", ".git-credentials", ".pgpass", ".npmrc", "id_rsa", "id_ed25519", "id_ecdsa", "id_dsa", "credentials",
    ]

    private mutating func look(at path: String, _ name: String, _ node: MergedTree.Node) {
        let isInHome = ["root", "home"].contains(String(path.split(separator: "/").first ?? ""))
        if isInHome && Self.secretNames.contains(name) || path.hasSuffix("/.docker/config.json") || name == "munge.key"
        {
            note("error", "secret", path, "a file of this name holds credentials")
        }
        guard node.size > 0, let head = tree.contents(of: path, limit: Limit.head) else { return }
        if path == "/etc/shadow" { return lookAtShadow(String(decoding: head, as: UTF8.self)) }
        if head.starts(with: [0x7F, 0x45, 0x4C, 0x46]) {
            if node.isExecutable || name.contains(".so") { lookAtProgram(path, head, node) }
        } else if head.starts(with: Array("-----BEGIN ".utf8)) {
            let line = String(decoding: head.prefix { $0 != 10 }, as: UTF8.self)
            if line.contains("PRIVATE KEY") { note("error", "private-key", path, "a private key") }
        }
    }

    private mutating func lookAtShadow(_ text: String) {
        for line in text.split(separator: "\n") {
            let fields = line.split(separator: ":", omittingEmptySubsequences: false)
            guard fields.count > 1, fields[1].hasPrefix("$") else { continue }
            note("error", "password", "/etc/shadow", "the account '\(fields[0])' has a password")
        }
    }

    private mutating func lookAtProgram(_ path: String, _ head: [UInt8], _ node: MergedTree.Node) {
        guard head.count > 20 else { return }
        let machine = Int(head[18]) | Int(head[19]) << 8
        // elf(5), e_machine; 64-bit.
        let machines = ["amd64": 62, "arm64": 183]
        guard let expected = machines[Platform.canonical(platform.architecture)] else { return }
        guard machine == expected, head[4] == 2 else {
            note("warning", "architecture", path, "a program or library for another kind of processor")
            return
        }
        guard path.hasPrefix("/usr/bin/") || path.hasPrefix("/usr/local/") || path.hasPrefix("/opt/"),
            node.size <= Limit.program, findings.filter({ $0.rule == "library" }).count < Limit.missing,
            let bytes = tree.contents(of: path, limit: Int(node.size)), let section = DynamicSection(bytes)
        else { return }
        for library in section.needed where !isThere(library, path, section.searchPaths) {
            note("warning", "library", path, "\(library) is not in the usual directories of the image")
        }
    }

    private func isThere(_ library: String, _ program: String, _ searchPaths: [String]) -> Bool {
        let origin = program.split(separator: "/").dropLast().joined(separator: "/")
        let triplet = Platform.canonical(platform.architecture) == "arm64" ? "aarch64-linux-gnu" : "x86_64-linux-gnu"
        var directories = [
            "lib64", "usr/lib64", "lib", "usr/lib", "usr/local/lib", "usr/lib/" + triplet, "lib/" + triplet,
        ]
        directories += [origin, origin + "/../lib"] + configured
        directories += searchPaths.map {
            var path = $0[...]
            for word in ["$ORIGIN", "${ORIGIN}"] where path.hasPrefix(word) {
                path = origin + path.dropFirst(word.count)
            }
            return String(path)
        }
        return directories.contains { tree.find($0 + "/" + library) != nil } || library.contains("/")
    }
}
