import Crypto
import Diagnostics
import FoundationEssentials
import Glibc
import ImageFormats
import LinuxSystem
import OCIModel

/// A public key that signs images: ECDSA on P-256, as `cosign generate-key-pair` makes it, or Ed25519.
package struct SigningKey: Sendable {
    private enum Key { case p256(P256.Signing.PublicKey), ed25519(Curve25519.Signing.PublicKey) }
    private let key: Key

    /// From PEM (`-----BEGIN PUBLIC KEY-----`, RFC 5480 and RFC 8410); nil for other keys.
    package init?(pem: String) {
        if let key = try? P256.Signing.PublicKey(pemRepresentation: pem) {
            self.key = .p256(key)
            return
        }
        // SubjectPublicKeyInfo of Ed25519: a fixed prefix and 32 bytes.
        let prefix: [UInt8] = [0x30, 0x2A, 0x30, 0x05, 0x06, 0x03, 0x2B, 0x65, 0x70, 0x03, 0x21, 0x00]
        let body = pem.split(separator: "\n").map { $0.filter { $0 != "\r" } }.filter { !$0.hasPrefix("-----") }
            .joined()
        guard let bytes = Data(base64Encoded: body), bytes.count == 44, bytes.starts(with: prefix),
            let key = try? Curve25519.Signing.PublicKey(rawRepresentation: bytes.suffix(32))
        else { return nil }
        self.key = .ed25519(key)
    }

    private func verifies(_ signature: Data, of payload: Data) -> Bool {
        switch key {
        case .p256(let key):
            guard let signature = try? P256.Signing.ECDSASignature(derRepresentation: signature) else { return false }
            return key.isValidSignature(signature, for: payload)
        case .ed25519(let key): return key.isValidSignature(signature, for: payload)
        }
    }

    /// Where a signature manifest's layer has the signature, in base64; its blob is the payload.
    package static let annotation = "dev.cosignproject.cosign/signature"

    /// What this key said of image `manifest` in `payload`; nil when it did not.
    package func signature(
        _ signature: String, over payload: [UInt8], of manifest: OCIModel.Digest
    ) -> VerifiedSignature? {
        // First the signature, then what it says: nothing unsigned is believed.
        guard let bytes = Data(base64Encoded: signature), verifies(bytes, of: Data(payload)),
            let said = try? JSONDecoder().decode(SimpleSigning.self, from: Data(payload)),
            ["cosign container image signature", "atomic container signature"].contains(said.critical.type),
            said.critical.image.digest == manifest
        else { return nil }
        return VerifiedSignature(
            reference: said.critical.identity?.reference, text: signature, payload: payload, digest: manifest)
    }

    /// Whether `signature` (its bytes, or their base64 as `cosign sign-blob` writes it) is this key's over all
    /// of an open file. The file is mapped, not read into memory.
    package func signed(file: borrowing OwnedDescriptor, _ signature: [UInt8]) throws(SyscallError) -> Bool {
        var status = stat()
        let raw = file.raw
        try checked("fstat") { fstat(raw, &status) }
        let count = Int(status.st_size)
        guard count > 0 else { return false }
        guard let start = mmap(nil, count, PROT_READ, MAP_PRIVATE, raw, 0), start != MAP_FAILED else {
            throw SyscallError("mmap", "the file to verify")
        }
        defer { munmap(start, count) }
        let content = Data(bytesNoCopy: start, count: count, deallocator: .none)
        let text = String(decoding: signature, as: UTF8.self).filter { !$0.isWhitespace }
        return verifies(Data(signature), of: content)
            || Data(base64Encoded: text).map { verifies($0, of: content) } ?? false
    }
}

/// What a simple-signing payload says (containers/image, "atomic container signature"; cosign's SIGNATURE_SPEC).
private struct SimpleSigning: Decodable {
    struct Critical: Decodable {
        struct Image: Decodable {
            var digest: OCIModel.Digest
            enum CodingKeys: String, CodingKey { case digest = "docker-manifest-digest" }
        }
        struct Identity: Decodable {
            var reference: String?
            enum CodingKeys: String, CodingKey { case reference = "docker-reference" }
        }
        var image: Image
        var identity: Identity?
        var type: String
    }
    var critical: Critical
}

/// A signature that holds.
package struct VerifiedSignature: Sendable {
    /// The name it was signed under, when the payload says.
    package var reference: String?
    /// In base64, what it was made over, and the digest that says: of an image, or of an index that leads to it.
    package var text: String
    package var payload: [UInt8]
    package var digest: OCIModel.Digest
}

extension ImageStore {
    /// Looks for signatures of image `manifest` in an OCI layout, a directory or an archive, where cosign
    /// keeps them: a manifest named `sha256-HEX.sig`, or one that has the image as its subject.
    ///
    /// - Returns: the signatures that `key` made over this digest; empty when there is none.
    /// - Throws: `archive-invalid` when the layout cannot be read.
    package func signatures(
        of manifest: OCIModel.Digest, by key: SigningKey, in layout: borrowing OwnedDescriptor, subject: String
    ) throws(Diagnostic) -> [VerifiedSignature] {
        do throws(ArchiveFault) {
            var status = stat()
            guard fstat(layout.raw, &status) == 0 else { throw ArchiveFault(SyscallError("fstat", subject)) }
            let contents =
                status.isDirectory
                ? ArchiveContents(directory: layout.raw)
                : try ArchiveContents(layout.raw, length: Int64(status.st_size))
            var found: [VerifiedSignature] = []
            for layer in try contents.signatureLayers(of: manifest) {
                guard let text = layer.annotations?[SigningKey.annotation] else { continue }
                let payload = try contents.verified(layer, "signature payload")
                if let signature = key.signature(text, over: payload, of: manifest) { found.append(signature) }
            }
            return found
        } catch { throw refused(error, subject) }
    }
}
