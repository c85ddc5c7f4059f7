import Diagnostics
import ImageStore

/// From what a user typed to an image in the store.
package struct ImageResolver: Sendable {
    package let store: ImageStore
    private let account: (@Sendable () -> PreparedRoot.Account)?
    private let announce: @Sendable (String) -> Void

    /// - Parameters:
    ///   - account: for whom an archive's image is prepared; nil when only names are asked for.
    ///   - announce: told when a file was loaded into the store.
    package init(
        store: ImageStore, account: (@Sendable () -> PreparedRoot.Account)? = nil,
        announce: @escaping @Sendable (String) -> Void = { _ in }
    ) {
        self.store = store
        self.account = account
        self.announce = announce
    }

    /// The image called `name`, or lying at the path `name`.
    ///
    /// - Throws: `image-not-found`, which says where it looked, what is near, and what to type; `image-path`.
    package func resolve(_ name: String) throws(Diagnostic) -> StoredImage {
        if let account,
            let image = try SingleFileImage.named(name, account: account, layout: store.layout)
        {
            return image
        }
        if let account, let path = PathImage.path(in: name) {
            return try PathImage(store: store, account: account(), announce: announce).resolve(path)
        }
        if let image = try store.image(named: name) { return image }
        throw try notFound(name)
    }

    /// Whether `name` says where a file or a directory lies.
    package static func isPath(_ name: String) -> Bool { PathImage.path(in: name) != nil }

    package func notFound(_ name: String) throws(Diagnostic) -> Diagnostic {
        let names = try store.images().filter(\.hasName).map(\.name)
        // The tag is often left out, and so is the host podman adds.
        let spellings = names.flatMap { full -> [(word: String, name: String)] in
            let short = full.hasPrefix("localhost/") ? String(full.dropFirst(10)) : full
            let bare = short.split(separator: ":").first.map(String.init) ?? short
            return [(full, full), (short, full), (bare, full)]
        }
        let word = name.hasSuffix(":latest") ? String(name.dropLast(7)) : name
        var near: [String] = []
        for match in NearMiss.nearest(to: word, among: spellings.map(\.word)) {
            for spelling in spellings where spelling.word == match && !near.contains(spelling.name) {
                near.append(spelling.name)
            }
        }
        var remedies = near.prefix(3).map { "did you mean '\($0)'?" }
        remedies.append(names.isEmpty ? "the store is empty: trireme image load -i FILE" : "trireme image ls")
        if !names.isEmpty { remedies.append("trireme image load -i FILE") }
        return Diagnostic(
            DiagnosticCode("image-not-found"), name, reasons: ["no such image in the store \(store.layout.root)"],
            remedies: remedies)
    }
}
