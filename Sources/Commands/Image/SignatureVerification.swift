import Diagnostics
import Glibc
import ImageStore
import LinuxSystem
import OCIModel
import RegistryClient
import SiteConfiguration

/// `image verify --key`: who signed an image.
enum SignatureVerification {
    /// Prints one line per image that is signed.
    ///
    /// - Throws: `image-unsigned` for the first image without a signature of this key.
    static func run(_ images: [StoredImage], key path: String, signatures: String?, _ store: ImageStore) throws {
        let key = try key(path)
        if let remote = try remote(signatures, images) {
            for image in images { try verify(image, in: remote(image), key, path) }
            return
        }
        guard let signatures else {
            throw Diagnostic(
                DiagnosticCode("usage"), "--key", reasons: ["it needs --signatures: where the image's signatures are"],
                remedies: [
                    "trireme image verify --key \(path) --signatures LAYOUT NAME", "cosign save --dir LAYOUT NAME",
                ])
        }
        for image in images {
            let digest = image.record.manifest.digest
            let layout = try ImageLoad.open(signatures, verb: "verify")
            let found = try store.signatures(of: digest, by: key, in: layout, subject: signatures)
            guard let first = found.first else {
                throw Diagnostic(
                    DiagnosticCode("image-unsigned"), image.name,
                    reasons: ["no signature of \(digest) by \(path) in \(signatures)"],
                    remedies: ["cosign save brings an image with its signatures", "another --key"])
            }
            say(image, first)
        }
    }

    private static func say(_ image: StoredImage, _ signature: VerifiedSignature) {
        let name = signature.reference.map { $0.isEmpty ? "" : " as \(Diagnostic.harmless($0))" } ?? ""
        Output.standard.line("\(image.name): \(image.record.manifest.digest) is signed\(name)")
    }

    /// Where a registry has the signatures: as `--signatures docker://HOST/NAME` says, or where the image's
    /// name says it came from. Nil when they are in a layout. A name without a host says nothing: it may
    /// have come with an archive, and must not go out into the world.
    private static func remote(
        _ signatures: String?, _ images: [StoredImage]
    ) throws(Diagnostic) -> ((StoredImage) -> RemoteReference)? {
        if let signatures {
            guard signatures.hasPrefix(RemoteReference.scheme) else { return nil }
            let reference = try RegistryCommands.reference(signatures)
            return { _ in reference }
        }
        var references: [String: RemoteReference] = [:]
        for image in images {
            guard let first = image.name.split(separator: "/").first, image.name.contains("/"),
                first.contains(where: { $0 == "." || $0 == ":" }) || first == "localhost",
                let reference = RemoteReference(image.name)
            else { return nil }
            references[image.name] = reference
        }
        let known = references
        guard let any = known.values.first else { return nil }
        return { known[$0.name] ?? any }
    }

    private static func verify(
        _ image: StoredImage, in reference: RemoteReference, _ key: SigningKey, _ path: String
    ) throws(Diagnostic) {
        let digest = image.record.manifest.digest
        let settings = RegistryCommands.settings()
        guard
            let found = try RemoteSignatures.find(
                digest, in: reference, platform: image.record.platform, by: key, settings: settings)
        else {
            throw Diagnostic(
                DiagnosticCode("image-unsigned"), image.name,
                reasons: ["no signature of \(digest) by \(path) in \(reference.name)"],
                remedies: ["--signatures LAYOUT or docker://HOST/NAME, where they are", "another --key"])
        }
        say(image, found)
    }

    /// - Throws: `usage` when `path` holds no public key.
    static func key(_ path: String) throws(Diagnostic) -> SigningKey {
        if let text = try? read(path), let key = SigningKey(pem: text) { return key }
        throw Diagnostic(
            DiagnosticCode("usage"), "--key \(path)",
            reasons: ["not a public key in PEM that is read here (ECDSA P-256 or Ed25519)"],
            remedies: ["cosign public-key --key cosign.key > cosign.pub", "openssl pkey -in KEY -pubout"])
    }

    private static func read(_ path: String) throws(SyscallError) -> String {
        String(decoding: try OwnedDescriptor.open(path, O_RDONLY).readAll(limit: 64 << 10), as: UTF8.self)
    }
}
