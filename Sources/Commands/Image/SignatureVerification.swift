import Diagnostics
import Glibc
import ImageStore
import LinuxSystem
import OCIModel

/// `image verify --key`: who signed an image.
enum SignatureVerification {
    /// Prints one line per image that is signed.
    ///
    /// - Throws: `image-unsigned` for the first image without a signature of this key.
    static func run(_ images: [StoredImage], key path: String, signatures: String?, _ store: ImageStore) throws {
        guard let text = try? read(path), let key = SigningKey(pem: text) else {
            throw Diagnostic(
                DiagnosticCode("usage"), "--key \(path)",
                reasons: ["not a public key in PEM that is read here (ECDSA P-256 or Ed25519)"],
                remedies: ["cosign public-key --key cosign.key > cosign.pub", "openssl pkey -in KEY -pubout"])
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
            let name = first.reference.map { $0.isEmpty ? "" : " as \(Diagnostic.harmless($0))" } ?? ""
            Output.standard.line("\(image.name): \(digest) is signed\(name)")
        }
    }

    private static func read(_ path: String) throws(SyscallError) -> String {
        String(decoding: try OwnedDescriptor.open(path, O_RDONLY).readAll(limit: 64 << 10), as: UTF8.self)
    }
}
