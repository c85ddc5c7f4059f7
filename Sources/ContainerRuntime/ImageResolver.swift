import Diagnostics
import Glibc
import ImageStore
import OCIModel

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
        if PathImage.path(in: name) != nil { return ImageResolver.notInStore(name) }
        if !name.isEmpty, access(name, F_OK) == 0 { remedies.append("the file or directory here: ./\(name)") }
        if names.isEmpty { remedies.append("the store is empty: trireme image load -i FILE") }
        // What a registry could have of that name; a mistyped one goes out into the world only where that is asked for.
        if let pulled = ImageResolver.pullable(name) {
            remedies += ["trireme pull \(pulled)", "trireme run docker://\(pulled)    pulls it, then runs it"]
        }
        if !names.isEmpty { remedies += ["trireme image ls", "trireme image load -i FILE"] }
        return Diagnostic(
            DiagnosticCode("image-not-found"), name, reasons: ["no such image in the store \(store.layout.root)"],
            remedies: remedies)
    }

    /// A path where only a name means something.
    private static func notInStore(_ path: String) -> Diagnostic {
        Diagnostic(
            DiagnosticCode("image-not-found"), path, reasons: ["a path, and this command takes images of the store"],
            remedies: [
                "trireme image import \(path) NAME    of a single file or a root file system in a tar file",
                "trireme image load -i \(path)    of an archive or an OCI layout",
            ])
    }

    /// The name as a registry could have it; nil for digits, paths and what is no name.
    private static func pullable(_ name: String) -> String? {
        if let at = name.lastIndex(of: "@") {
            return ImageReference(name[..<at]) != nil && Digest(name[name.index(after: at)...]) != nil ? name : nil
        }
        return ImageReference(name) == nil || name.hasPrefix("localhost/") || name.hasPrefix("sha256:") ? nil : name
    }
}
