import ArgumentParser
import ContainerRuntime
import Diagnostics
import ImageStore

/// `trireme image verify`
package struct ImageVerify: ParsableCommand {
    package static let configuration = CommandConfiguration(
        commandName: "verify",
        abstract: "Check every byte of images in the store: blobs by digest, unpacked layers by their blobs.",
        discussion: "Exit status 1 when something is damaged.")

    @Flag(help: "Unpack damaged layers anew; remove damaged blobs, so that the next load or pull brings them again.")
    var repair = false
    @Option(help: "table, json or jsonl.") var format = RowFormat.table(nil)
    @Option(help: "Instead: is the image signed with this public key (cosign's, or Ed25519, in PEM)?") var key: String?
    @Option(
        help: """
            With --key: the OCI layout, a directory or an archive, that holds the signatures, or docker://HOST/NAME; \
            the registry in the image's name when left out.
            """)
    var signatures: String?
    @Flag(name: .shortAndLong, help: "Print only what is damaged.") var quiet = false
    @Argument(help: "Names of images; all of the store when none is given.") var names: [String] = []

    package init() {}

    struct Row: FormattedRow {
        var damage: Damage
        static let columns = [
            ("Kind", "KIND"), ("What", "WHAT"), ("Images", "IMAGES"), ("State", "STATE"), ("Reasons", "REASONS"),
        ].map { (field: $0.0, heading: $0.1) }

        func text(_ field: String) -> String? {
            switch field {
            case "Kind": damage.kind.rawValue
            case "What": damage.what
            case "Images": damage.images.joined(separator: ", ")
            case "State": damage.isRepaired ? "repaired" : "damaged"
            case "Reasons": damage.reasons.joined(separator: "; ")
            default: nil
            }
        }
        func encode(to encoder: any Encoder) throws { try damage.encode(to: encoder) }
    }

    package func run() throws {
        let store = ImageStore.current()
        var images = try store.ownImages()
        if key != nil, names.isEmpty {
            throw Diagnostic(
                DiagnosticCode("usage"), "--key", reasons: ["name the images that must be signed"],
                remedies: ["trireme image verify --key KEY --signatures LAYOUT NAME"])
        }
        if !names.isEmpty {
            let resolver = ImageResolver(store: store)
            images = try names.map { try resolver.resolve($0) }
            if let key { return try SignatureVerification.run(images, key: key, signatures: signatures, store) }
            for image in images where image.layout.root != store.layout.root {
                throw Diagnostic(
                    DiagnosticCode("store-read-only"), image.name, reasons: ["it lies in \(image.layout.root)"],
                    remedies: ["TRIREME_STORE=\(image.layout.root) trireme image verify \(image.name)"])
            }
        }
        let damage = try store.verify(images, isRepairing: repair)
        if case .table(nil) = format {
            for item in damage {
                let users = item.images.isEmpty ? "" : " of \(item.images.joined(separator: ", "))"
                Output.standard.line(
                    "\(item.kind.rawValue) \(item.what)\(users): \(item.isRepaired ? "repaired" : "damaged")")
                for reason in item.reasons { Output.standard.line("  \(Diagnostic.harmless(reason))") }
            }
            if damage.isEmpty, !quiet { Output.standard.line("\(images.count) images: everything is as it should be") }
        } else {
            try Output.standard.rows(damage.map(Row.init), as: format)
        }
        let left = damage.filter { !$0.isRepaired }
        guard !left.isEmpty else { return }
        for line in advice(left) { Output.standard.line("hint: \(line)", to: .progress) }
        throw ExitCode(1)
    }

    private func advice(_ damage: [Damage]) -> [String] {
        var lines: [String] = []
        if !repair, damage.contains(where: { $0.kind == .layer || $0.kind == .index }) {
            lines.append("trireme image verify --repair")
        }
        if damage.contains(where: { $0.kind == .blob }) {
            let names = Set(damage.filter { $0.kind == .blob }.flatMap(\.images)).sorted().joined(separator: " ")
            lines.append(
                (repair ? "" : "trireme image verify --repair, then ")
                    + "bring it again: trireme image load -i FILE, or trireme image pull \(names)")
        }
        if damage.contains(where: { $0.kind == .record || $0.kind == .plan }) {
            lines.append("trireme image rm -f NAME and load the image again")
        }
        return lines
    }
}
