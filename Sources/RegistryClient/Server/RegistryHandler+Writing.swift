import Diagnostics
import FoundationEssentials
import Glibc
import ImageFormats
import ImageStore
import LinuxSystem
import NIOCore
import NIOHTTP1
import OCIModel
import RegistryWire

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
        let layers = manifest.layers ?? []
        if let excess = ImageManifest.excess(of: layers) { return RegistryReply(.manifestInvalid, excess) }
        // A manifest comes after what it speaks of; foreign layers lie elsewhere.
        for described in layers + [manifest.config].compactMap({ $0 }) where !described.isForeign {
            guard let blob = content.blob(described.digest) else {
                return RegistryReply(.manifestBlobUnknown, "blob \(described.digest) is not here")
            }
            guard blob.size == described.size else {
                return RegistryReply(
                    .manifestInvalid, "blob \(described.digest) has \(blob.size) bytes, not \(described.size)")
            }
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
        if let mount = query["mount"].flatMap({ Digest($0) }), content.has(mount) { return created(name, mount) }
        let id = try content.makeUpload()
        guard let wanted = query["digest"] else { return state(name, id, 0, .accepted) }
        return try await receive(name, id, from: nil, body, closingAs: wanted)
    }

    func upload(
        _ name: String, _ id: String, _ head: HTTPRequestHead, _ query: RegistryQuery, _ body: RequestBody
    ) async throws -> RegistryReply {
        let path = RegistryContent.upload(id)
        guard id.utf8.allSatisfy({ (48...57).contains($0) || (97...122).contains($0) }),
            let entry = content.directory.entry(path), !entry.isDirectory
        else { return RegistryReply(.uploadUnknown, "no such upload") }
        let range = head.headers.first(name: "Content-Range")
        switch head.method {
        case .GET: return state(name, id, entry.bytes, .noContent)
        case .DELETE:
            content.directory.remove(path)
            return RegistryReply(.noContent)
        case .PATCH: return try await receive(name, id, from: range, body, closingAs: nil)
        case .PUT:
            guard let wanted = query["digest"] else { return RegistryReply(.digestInvalid, "no digest was given") }
            return try await receive(name, id, from: range, body, closingAs: wanted)
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

    /// The next piece of an upload, which begins where `range` says.
    ///
    /// - Parameter wanted: it is the last one, and this the digest that all must have.
    private func receive(
        _ name: String, _ id: String, from range: String?, _ body: RequestBody, closingAs wanted: String?
    ) async throws -> RegistryReply {
        guard let writer = try UploadWriter.take(RegistryContent.upload(id), in: content.directory) else {
            return RegistryReply(.uploadBusy, "another request is writing this upload")
        }
        if let range, ContentRange.start(range) != writer.bytes {
            return state(name, id, writer.bytes, .rangeNotSatisfiable)
        }
        while let buffer = try await body.next() { try writer.append(buffer) }
        guard let wanted else { return state(name, id, writer.bytes, .accepted) }
        return try close(name, writer, wanted)
    }

    private func close(_ name: String, _ writer: UploadWriter, _ wanted: String) throws(SyscallError) -> RegistryReply {
        if let digest = Digest(wanted), try writer.seal(as: digest) { return created(name, digest) }
        writer.discard()
        return RegistryReply(.digestInvalid, "the content has another digest, or this is none of sha256")
    }
}

/// The one request that writes to an upload. Its lock (flock(2)) ends with it, also when the server is killed.
private final class UploadWriter {
    private let path: String
    private let directory: PrivateDirectory
    private let file: OwnedDescriptor
    private(set) var bytes: Int64

    private init(_ path: String, _ directory: PrivateDirectory, _ file: consuming OwnedDescriptor, _ bytes: Int64) {
        self.path = path
        self.directory = directory
        self.file = file
        self.bytes = bytes
    }

    /// nil while another request writes.
    ///
    /// - Throws: ENOENT when the upload has ended meanwhile.
    static func take(_ path: String, in directory: PrivateDirectory) throws(SyscallError) -> UploadWriter? {
        let file = try directory.open(path, O_RDWR | O_APPEND)
        let raw = file.raw
        guard flock(raw, LOCK_EX | LOCK_NB) == 0 else {
            guard errno == EWOULDBLOCK else { throw SyscallError("flock", path) }
            return nil
        }
        var status = stat()
        try checked("fstat", path) { fstat(raw, &status) }
        // Whoever held the lock before may have made a blob of it: then no name leads to it any more but the blob's.
        guard status.isFile, directory.entry(path) != nil else { throw SyscallError("open", path, errno: ENOENT) }
        return UploadWriter(path, directory, file, Int64(status.st_size))
    }

    func append(_ buffer: ByteBuffer) throws(SyscallError) {
        var failure: SyscallError?
        buffer.withUnsafeReadableBytes { bytes in
            do throws(SyscallError) { try file.writeAll(bytes) } catch { failure = error }
        }
        if let failure { throw failure }
        bytes += Int64(buffer.readableBytes)
    }

    /// Makes a blob of it, when its content is that of `digest`: all of the file, by the descriptor that alone could
    /// write to it.
    func seal(as digest: Digest) throws(SyscallError) -> Bool {
        let raw = file.raw
        var status = stat()
        try checked("fchmod", path) { fchmod(raw, 0o400) }
        try checked("fstat", path) { fstat(raw, &status) }
        guard ContentHashing.digest(of: raw, length: Int64(status.st_size)) == digest else { return false }
        try directory.rename(path, RegistryContent.blob(digest))
        return true
    }

    func discard() { directory.remove(path) }
}
