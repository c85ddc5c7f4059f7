import Diagnostics
import FoundationEssentials
import Glibc
import ImageStore
import LinuxSystem
import NIOCore
import NIOHTTP1
import OCIModel

extension RegistryHandler {
    private enum Limit { static let manifestBytes = 4 << 20 }

    // MARK: Manifests

    private struct PushedManifest: Decodable {
        var schemaVersion: Int?
        var mediaType: String?
        var artifactType: String?
        var config: Descriptor?
        var layers: [Descriptor]?
        var manifests: [Descriptor]?
        var subject: Descriptor?
        var annotations: [String: String]?
    }

    func putManifest(
        _ name: String, _ reference: String, _ head: HTTPRequestHead, _ body: RequestBody
    ) async throws -> RegistryReply {
        guard let bytes = try await body.all(limit: Limit.manifestBytes) else {
            return RegistryReply(.sizeInvalid, "a manifest has at most 4 MiB")
        }
        let digest = Digest(sha256: bytes)
        let tag = Digest(reference) == nil ? reference : nil
        if let asked = Digest(reference), asked != digest {
            return RegistryReply(.digestInvalid, "the content is \(digest)")
        }
        if let tag, ImageReference("x:" + tag) == nil { return RegistryReply(.manifestInvalid, "not a tag") }
        guard let manifest = try? JSONDecoder().decode(PushedManifest.self, from: Data(bytes)),
            manifest.schemaVersion == 2
        else { return RegistryReply(.manifestInvalid, "not a manifest") }
        let header = head.headers.first(name: "Content-Type")?.split(separator: ";").first.map(String.init)
        if let header, let own = manifest.mediaType, header != own {
            return RegistryReply(.manifestInvalid, "Content-Type and mediaType differ")
        }
        let isIndex = manifest.manifests != nil
        let type = manifest.mediaType ?? header ?? (isIndex ? MediaType.index : MediaType.manifest)
        // A manifest comes after what it speaks of; foreign layers lie elsewhere.
        let needed = (manifest.layers ?? []) + [manifest.config].compactMap { $0 }
        for blob in needed where !blob.isForeign && content.blob(blob.digest) == nil {
            return RegistryReply(.manifestBlobUnknown, "blob \(blob.digest) is not here")
        }
        for entry in manifest.manifests ?? [] where content.manifest(name, entry.digest.description) == nil {
            return RegistryReply(.manifestBlobUnknown, "manifest \(entry.digest) is not here")
        }
        let referrer = ReferrerDescriptor(
            mediaType: type, digest: digest, size: Int64(bytes.count),
            artifactType: manifest.artifactType ?? manifest.config?.mediaType, annotations: manifest.annotations)
        try content.keep(
            bytes, digest, type: type, in: name, tag: tag, subject: manifest.subject?.digest, as: referrer)
        if !isIndex, let tag,
            let fault = await imports.take(
                bytes, digest, type: type, name: ImageReference("\(name):\(tag)"), content: content)
        {
            // It is no image that can run: the tag does not stay.
            _ = content.deleteManifest(name, digest)
            return RegistryReply(.manifestInvalid, "the image was refused (\(fault.code.rawValue))")
        }
        var reply = RegistryReply(
            .created,
            [("Location", "/v2/\(name)/manifests/\(digest)"), ("Docker-Content-Digest", digest.description)])
        if let subject = manifest.subject {
            reply.headers.add(name: "OCI-Subject", value: subject.digest.description)
        }
        return reply
    }

    // MARK: Blobs

    func startUpload(_ name: String, _ query: RegistryQuery, _ body: RequestBody) async throws -> RegistryReply {
        if let mount = query["mount"].flatMap({ Digest($0) }), content.blob(mount) != nil {
            return created(name, mount)
        }
        content.prune()
        let id =
            String(UInt64.random(in: .min ... .max), radix: 36) + String(UInt64.random(in: .min ... .max), radix: 36)
        _ = try OwnedDescriptor.open(content.uploads + "/" + id, O_WRONLY | O_CREAT | O_EXCL, mode: 0o644)
        if let wanted = query["digest"] { return try await close(name, id, wanted, body) }
        return state(name, id, 0, .accepted)
    }

    func upload(
        _ name: String, _ id: String, _ head: HTTPRequestHead, _ query: RegistryQuery, _ body: RequestBody
    ) async throws -> RegistryReply {
        let path = content.uploads + "/" + id
        var status = stat()
        guard id.utf8.allSatisfy({ (48...57).contains($0) || (97...122).contains($0) }), stat(path, &status) == 0 else {
            return RegistryReply(.uploadUnknown, "no such upload")
        }
        let size = Int64(status.st_size)
        switch head.method {
        case .GET: return state(name, id, size, .noContent)
        case .DELETE:
            unlink(path)
            return RegistryReply(.noContent)
        case .PATCH, .PUT:
            if let range = head.headers.first(name: "Content-Range") {
                let start = range.hasPrefix("bytes ") ? range.dropFirst(6) : range[...]
                guard Int64(start.prefix { $0 != "-" }) == size else {
                    return state(name, id, size, .rangeNotSatisfiable)
                }
            }
            if head.method == .PATCH { return state(name, id, try await append(body, to: path), .accepted) }
            guard let wanted = query["digest"] else { return RegistryReply(.digestInvalid, "no digest was given") }
            return try await close(name, id, wanted, body)
        default: return RegistryReply(.unsupported, "method not allowed")
        }
    }

    /// Where an upload stands: `Range` names the last byte that is here.
    private func state(_ name: String, _ id: String, _ size: Int64, _ status: HTTPResponseStatus) -> RegistryReply {
        RegistryReply(
            status,
            [
                ("Location", "/v2/\(name)/blobs/uploads/\(id)"), ("Docker-Upload-UUID", id),
                ("Range", "0-\(max(0, size - 1))"),
            ])
    }

    private func created(_ name: String, _ digest: Digest) -> RegistryReply {
        RegistryReply(
            .created, [("Location", "/v2/\(name)/blobs/\(digest)"), ("Docker-Content-Digest", digest.description)])
    }

    /// - Returns: the bytes in the file then.
    private func append(_ body: RequestBody, to path: String) async throws -> Int64 {
        let file = try OwnedDescriptor.open(path, O_WRONLY | O_APPEND)
        while let buffer = try await body.next() {
            var failure: SyscallError?
            buffer.withUnsafeReadableBytes { bytes in
                do throws(SyscallError) { try file.writeAll(bytes) } catch { failure = error }
            }
            if let failure { throw failure }
        }
        var status = stat()
        fstat(file.raw, &status)
        return Int64(status.st_size)
    }

    /// The last piece, and the digest that all must have.
    private func close(
        _ name: String, _ id: String, _ wanted: String, _ body: RequestBody
    ) async throws -> RegistryReply {
        let path = content.uploads + "/" + id
        let size = try await append(body, to: path)
        guard let wanted = Digest(wanted) else {
            unlink(path)
            return RegistryReply(.digestInvalid, "not a sha256 digest")
        }
        let file = try OwnedDescriptor.open(path, O_RDONLY)
        guard let found = ContentHashing.digest(of: file.raw, length: size), found == wanted else {
            unlink(path)
            return RegistryReply(.digestInvalid, "the content has another digest")
        }
        try Files.rename(path, content.blobs + "/" + wanted.hex)
        return created(name, wanted)
    }
}
