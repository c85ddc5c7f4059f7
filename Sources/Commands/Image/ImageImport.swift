import ArgumentParser
import ContainerRuntime
import Diagnostics
import FoundationEssentials
import Glibc
import ImageFormats
import ImageStore
import LinuxSystem
import OCIModel
import SiteConfiguration

/// `trireme image import`
package struct ImageImport: ParsableCommand {
    package static let configuration = CommandConfiguration(
        commandName: "import", abstract: "Make an image from a root file system in a tar file, as docker import.",
        discussion: """
            The file may be plain, gzip or zstd. A single-file image (.sqfs, .sif) is taken, too, and keeps how it is \
            run. SOURCE_DATE_EPOCH sets the image's time of creation.
            """)

    @Option(
        name: [.customShort("c"), .customLong("change")],
        help: "A Dockerfile instruction: CMD, ENTRYPOINT, ENV, EXPOSE, LABEL, STOPSIGNAL, USER, VOLUME or WORKDIR.")
    var changes: [String] = []
    @Option(name: .shortAndLong, help: "A comment for the image's history.") var message: String?
    @Option(help: "The platform of the programs in it, when not this machine's.") var platform: String?
    @OptionGroup var limits: ImportLimits
    @Flag(name: .shortAndLong, help: "Print the image id only.") var quiet = false
    @Argument(help: "The tar file; '-' reads standard input.") var file: String
    @Argument(help: "The image's name.") var name: String?

    package init() {}

    package func run() throws {
        let target = try ImageLoad.platform(platform)
        var configuration = ImageConfiguration()
        configuration.architecture = target.architecture
        configuration.operatingSystem = target.operatingSystem
        configuration.variant = target.variant
        let locations = Locations.current()
        let report = LoadReport(isQuiet: quiet)
        let loaded: [LoadedImage]
        if let image = try singleFile(locations) {
            let space = try ConversionSpace(below: locations.temporary)
            defer { withExtendedLifetime(space) {} }
            let root = try RootSource(image, in: space, limits: try limits.limits())
            if platform == nil { configuration = root.configuration }
            configuration.config = try ImageChange.apply(changes, to: root.configuration.config ?? .init())
            loaded = try store(root.archive, configuration, locations, report)
        } else {
            configuration.config = try ImageChange.apply(changes)
            loaded = try store(try ImageLoad.open(file, verb: "import"), configuration, locations, report)
        }
        report.end()
        for item in loaded {
            Output.standard.line(
                quiet || !item.image.hasName
                    ? item.image.record.configuration.description : "Imported image: \(item.image.name)")
        }
    }

    private func store(
        _ archive: borrowing OwnedDescriptor, _ configuration: ImageConfiguration, _ locations: Locations,
        _ report: LoadReport
    ) throws(Diagnostic) -> [LoadedImage] {
        let reference: ImageReference? = if let name { try ImageTag.reference(name) } else { nil }
        return try ImageStore(locations).importRoot(
            archive: archive, subject: file == "-" ? "standard input" : file, name: reference,
            configuration: configuration, created: try ImageImport.created(),
            comment: message ?? "Imported from \(file)",
            preparer: PlanCompiler(account: .current(home: locations.home)), limits: try limits.limits(),
            progress: report.note)
    }

    private func singleFile(_ locations: Locations) throws(Diagnostic) -> StoredImage? {
        guard file != "-" else { return nil }
        return try SingleFileImage.named(
            file.contains("/") ? file : "./" + file, account: { .current(home: locations.home) },
            layout: ImageStore(locations).layout)
    }

    /// Now, or `SOURCE_DATE_EPOCH` (reproducible-builds.org).
    static func created() throws(Diagnostic) -> String {
        guard let epoch = getenv("SOURCE_DATE_EPOCH").map({ String(cString: $0) }) else {
            return Date.now.formatted(.iso8601)
        }
        guard let seconds = Int32(epoch) else {
            throw Diagnostic(
                DiagnosticCode("usage"), "SOURCE_DATE_EPOCH=\(epoch)", reasons: ["not a number of seconds"])
        }
        return Date(timeIntervalSince1970: Double(seconds)).formatted(.iso8601)
    }
}

/// One instruction of `--change`, as docker import and docker commit take them.
enum ImageChange {
    static func apply(
        _ changes: [String], to start: ImageConfiguration.Execution = .init()
    ) throws(Diagnostic) -> ImageConfiguration.Execution {
        var config = start
        for change in changes {
            let trimmed = change.drop { $0 == " " }
            let word = trimmed.prefix { $0 != " " && $0 != "\t" }
            var rest = trimmed.dropFirst(word.count)
            while let first = rest.first, first == " " || first == "\t" { rest = rest.dropFirst() }
            let text = String(rest)
            func refuse(_ reason: String) -> Diagnostic {
                Diagnostic(DiagnosticCode("usage"), "--change '\(change)'", reasons: [reason])
            }
            guard !text.isEmpty else { throw refuse("there is nothing after the instruction") }
            switch word.uppercased() {
            case "CMD": config.command = command(text)
            case "ENTRYPOINT": config.entrypoint = command(text)
            case "ENV":
                config.environment = (config.environment ?? []) + (try pairs(text, refuse).map { "\($0)=\($1)" })
            case "LABEL":
                for (key, value) in try pairs(text, refuse) {
                    config.labels = (config.labels ?? [:]).merging([key: value]) { $1 }
                }
            case "USER": config.user = text
            case "WORKDIR": config.workingDirectory = text
            case "STOPSIGNAL": config.stopSignal = text
            case "EXPOSE":
                for port in text.split(separator: " ") {
                    let key = port.contains("/") ? String(port) : "\(port)/tcp"
                    config.exposedPorts = (config.exposedPorts ?? [:]).merging([key: .init()]) { $1 }
                }
            case "VOLUME":
                for path in list(text) ?? text.split(separator: " ").map(String.init) {
                    config.volumes = (config.volumes ?? [:]).merging([path: .init()]) { $1 }
                }
            default: throw refuse("not an instruction that changes an image's configuration")
            }
        }
        return config
    }

    /// The exec form is a JSON array; the shell form goes to /bin/sh -c.
    private static func command(_ text: String) -> [String] { list(text) ?? ["/bin/sh", "-c", text] }

    private static func list(_ text: String) -> [String]? {
        guard text.hasPrefix("[") else { return nil }
        return try? JSONDecoder().decode([String].self, from: Data(text.utf8))
    }

    /// `K=V K2="v w"`, or the old `K the rest`.
    private static func pairs(
        _ text: String, _ refuse: (String) -> Diagnostic
    ) throws(Diagnostic) -> [(String, String)] {
        guard let equals = text.firstIndex(of: "="), !text[..<equals].contains(" ") else {
            let key = text.prefix { $0 != " " }
            guard key.count < text.count else { throw refuse("'\(text)' has no value") }
            return [(String(key), String(text.dropFirst(key.count + 1)))]
        }
        var result: [(String, String)] = []
        var word = ""
        var quote: Character?
        var isEscaped = false
        func take() throws(Diagnostic) {
            guard !word.isEmpty else { return }
            guard let equals = word.firstIndex(of: "="), equals != word.startIndex else {
                throw refuse("'\(word)' has no value")
            }
            result.append((String(word[..<equals]), String(word[word.index(after: equals)...])))
            word = ""
        }
        for character in text {
            if isEscaped {
                word.append(character)
                isEscaped = false
            } else if character == "\\" {
                isEscaped = true
            } else if let open = quote {
                if character == open { quote = nil } else { word.append(character) }
            } else if character == "\"" || character == "'" {
                quote = character
            } else if character == " " {
                try take()
            } else {
                word.append(character)
            }
        }
        guard quote == nil else { throw refuse("a quote is not closed") }
        try take()
        return result
    }
}
