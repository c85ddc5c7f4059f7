import AsyncHTTPClient
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

/// Where a file that is an image lies: as an artifact in a registry (`oras://HOST/NAME:TAG`, as `apptainer push`
/// and `oras push` make them) or behind an address (`https://…`).
package enum FileSource: Sendable {
    case artifact(RemoteReference)
    /// - `digest`: from `#sha256=HEX` behind the address.
    case address(String, digest: Digest?)

    package static let artifactScheme = "oras://"

    /// Nil when `text` is neither.
    package init?(_ text: String) {
        if text.hasPrefix(FileSource.artifactScheme) {
            guard let reference = RemoteReference(String(text.dropFirst(FileSource.artifactScheme.count))) else {
                return nil
            }
            self = .artifact(reference)
            return
        }
        guard text.hasPrefix("https://") || text.hasPrefix("http://") else { return nil }
        let parts = text.split(separator: "#", maxSplits: 1).map(String.init)
        var digest: Digest?
        if parts.count > 1 {
            let pin = parts[1].hasPrefix("sha256=") ? parts[1].dropFirst(7) : parts[1].dropFirst(0)
            digest = Digest(hex: pin) ?? Digest(pin)
            if digest == nil { return nil }
        }
        guard let address = URL(string: parts[0]), address.host != nil else { return nil }
        self = .address(parts[0], digest: digest)
    }

    /// What a file made of it would be called.
    package var fileName: String {
        switch self {
        case .artifact(let reference):
            let name = reference.repository.split(separator: "/").last.map(String.init) ?? "image"
            return "\(name)_\(reference.tag ?? reference.digest.map { String($0.hex.prefix(12)) } ?? "latest").sif"
        case .address(let text, _):
            let name = URL(string: text)?.path.split(separator: "/").last.map(String.init) ?? ""
            return name.isEmpty || name.hasPrefix(".") ? "image.sif" : name
        }
    }
}

/// Brings one file here, whole and verified: by its digest, by a signature, or both.
package struct FilePull {
    private let source: FileSource
    private let typed: String
    private let store: ImageStore
    private let settings: RegistrySettings
    private let report: @Sendable (_ received: Int64, _ of: Int64) -> Void

    package init(
        _ source: FileSource, typed: String, store: ImageStore, settings: RegistrySettings,
        report: @escaping @Sendable (_ received: Int64, _ of: Int64) -> Void
    ) {
        self.source = source
        self.typed = typed
        self.store = store
        self.settings = settings
        self.report = report
    }

    /// The file's place in the store's directory for what arrives; it is the caller's to move or remove.
    ///
    /// - Parameters:
    ///   - keys: of which one must have signed the file behind an address; its signature is at `signature`,
    ///     else at the address with `.sig` behind it.
    /// - Throws: `file-unverified` for an address that is neither pinned nor signed.
    package func run(keys: [SigningKey], signature: String?) throws(Diagnostic) -> String {
        let policy = try settings.policy()
        do throws(RegistryFault) {
            let transport = Transport(settings)
            defer { try? blocking { () throws(RegistryFault) in await transport.shutdown() } }
            switch source {
            case .artifact(let reference):
                try policy.admit(reference.name)
                return try artifact(reference, policy, transport)
            case .address(let text, let digest):
                guard let url = URL(string: text), let host = url.host else { throw .malformed("no address") }
                let name = host + (url.port.map { ":\($0)" } ?? "") + url.path
                try policy.admit(name)
                var demands = policy.demands(name).map(\.keys)
                if !keys.isEmpty { demands.append(keys) }
                guard !demands.isEmpty || digest != nil else {
                    throw RegistryFault(
                        DiagnosticCode("file-unverified"), ["nothing says what this file must be"],
                        remedies: ["\(text)#sha256=DIGEST", "--key KEY.pub, with the signature at \(text).sig"])
                }
                return try address(text, digest, demands, signature ?? text + ".sig", transport)
            }
        } catch { throw error.diagnostic(typed) }
    }

    // MARK: From a registry

    private func artifact(
        _ reference: RemoteReference, _ policy: RegistryPolicy, _ transport: Transport
    ) throws(RegistryFault) -> String {
        let credential = settings.credential(for: reference.host, reference.repository)
        let (registry, manifest) = try blocking { () throws(RegistryFault) in
            let endpoint = try await RegistryEndpoint.reachable(reference.host, transport)
            let registry = Registry(
                transport, endpoint, scope: Scope.pull(reference.repository), repository: reference.repository,
                credential: credential)
            return (registry, try await registry.manifest(reference.manifestName, expecting: reference.digest))
        }
        _ = try ImagePull.demandSignatures(policy, reference, of: [manifest.digest], in: registry)
        guard !manifest.isIndex,
            let artifact = try? JSONDecoder().decode(ImageManifest.self, from: Data(manifest.bytes))
        else { throw RegistryFault(.notAnImage, ["an index of several things, not one file"]) }
        let images = artifact.layers.filter { $0.mediaType == "application/vnd.sylabs.sif.layer.v1.sif" }
        let candidates = images.isEmpty ? artifact.layers : images
        guard candidates.count == 1, let layer = candidates.first, layer.size >= 0 else {
            throw RegistryFault(
                .notAnImage, ["an artifact of \(artifact.layers.count) files, and not one of them alone is an image"],
                remedies: ["an image of layers: trireme pull \(reference)"])
        }
        let path = try place(layer.digest)
        let transfer = BlobTransfer(layer, from: registry, what: "the file")
        try fetch(transfer, to: path) { file in
            ContentHashing.digest(of: file, length: layer.size) == layer.digest
                ? nil : "its digest is not \(layer.digest)"
        }
        return path
    }

    // MARK: From an address

    private func address(
        _ text: String, _ digest: Digest?, _ demands: [[SigningKey]], _ signature: String, _ transport: Transport
    ) throws(RegistryFault) -> String {
        guard let url = URL(string: text), let host = url.host else { throw .malformed("no address") }
        let isSecure = url.scheme?.lowercased() == "https"
        guard isSecure || transport.mayBePlain(host) else {
            throw RegistryFault(.registryUntrusted, ["plain HTTP to \(host)"], remedies: ["https://…", "--insecure"])
        }
        let base = (isSecure ? "https://" : "http://") + host + (url.port.map { ":\($0)" } ?? "")
        // Whoever serves files knows no scopes and no docker logins: nothing secret is sent.
        let server = Registry(
            transport, RegistryEndpoint(mirror: base), scope: "", repository: "", credential: .none)
        let signed = demands.isEmpty ? [] : try detached(signature, server)
        let size = try blocking { () throws(RegistryFault) in try await FilePull.size(text, server) }
        let path = try place(Digest(sha256: Array(text.utf8)))
        try fetch(BlobTransfer(url: text, size: size, from: server, what: "the file"), to: path) { file in
            if let digest {
                guard let found = ContentHashing.digest(of: file, length: size), found == digest else {
                    return "its digest is not \(digest)"
                }
            }
            for keys in demands {
                let copy = OwnedDescriptor(owning: dup(file))
                guard keys.contains(where: { (try? $0.signed(file: copy, signed)) ?? false }) else {
                    return "the signature at \(RegistryFault.printable(signature)) is not of this file by that key"
                }
            }
            return nil
        }
        return path
    }

    /// A signature, from a file or an address.
    private func detached(_ place: String, _ server: Registry) throws(RegistryFault) -> [UInt8] {
        guard place.hasPrefix("https://") || place.hasPrefix("http://") else {
            do throws(SyscallError) { return try Files.read(place, limit: 64 << 10) } catch {
                throw RegistryFault(.imageUnsigned, [error.sentence])
            }
        }
        do throws(RegistryFault) {
            return try blocking { () throws(RegistryFault) in
                let response = try await server.send(RegistryRequest(url: place), accepting: [200], what: "signature")
                return try await response.bytes(
                    limit: 64 << 10, idleSeconds: server.settings.idleSeconds, host: server.endpoint.host)
            }
        } catch {
            guard error.code == .registryNotFound || error.code == .registryAuthentication else { throw error }
            throw RegistryFault(
                .imageUnsigned, error.reasons, remedies: ["--signature FILE or ADDRESS, where the signature is"])
        }
    }

    /// Asked by a GET of one byte: an address that carries its own permission is often good for nothing else.
    private static func size(_ address: String, _ server: Registry) async throws(RegistryFault) -> Int64 {
        var request = RegistryRequest(url: address)
        request.headers.add(name: "Range", value: "bytes=0-0")
        let response = try await server.send(request, accepting: [200, 206, 416], what: "the file")
        let range = ContentRange.whole(response.headers.first(name: "Content-Range"))
        let whole = response.headers.first(name: "Content-Length").flatMap(Int64.init)
        guard let size = response.status.code == 200 ? whole : range, size > 0 else {
            throw .malformed("the server does not say how long the file is")
        }
        return size
    }

    // MARK: Into the store's directory

    private func place(_ digest: Digest) throws(RegistryFault) -> String {
        do throws(SyscallError) {
            try store.layout.makeRoot()
            try Files.makeDirectory(store.layout.partials)
        } catch { throw RegistryFault(DiagnosticCode("store-unusable"), [error.sentence]) }
        return store.layout.partials + "/file-" + digest.hex
    }

    /// Receives what is not there yet, then looks at all of it.
    ///
    /// - Parameter fault: what is wrong with the whole file, nil when nothing is.
    private func fetch(
        _ transfer: BlobTransfer, to path: String, fault: (Int32) -> String?
    ) throws(RegistryFault) {
        do {
            let file = try OwnedDescriptor.open(path, O_RDWR | O_CREAT | O_CLOEXEC, mode: 0o644)
            // One writer; a second puller of the same file finds it whole.
            let raw = file.raw
            try checked("flock", path) { flock(raw, LOCK_EX) }
            var start = Files.size(path) ?? 0
            if start > transfer.size { start = 0 }
            for isRetry in [false, true] {
                try checked("ftruncate", path) { ftruncate(raw, off_t(start)) }
                var part = transfer
                part.start = start
                let (from, report) = (part, report)
                let writer = Writer(raw, at: start)
                do throws(RegistryFault) {
                    try blocking { () throws(RegistryFault) in
                        try await from.receive { buffer in
                            guard writer.write(buffer) else { return false }
                            report(writer.position, from.size)
                            return true
                        }
                    }
                } catch {
                    if let failure = writer.failure { throw SyscallError("write", path, errno: failure) }
                    throw FetchFailure(error)
                }
                guard let wrong = fault(raw) else { return }
                // What was there before may have been what was wrong.
                guard start > 0, !isRetry else {
                    unlink(path)
                    throw FetchFailure(RegistryFault(.contentMismatch, [wrong]))
                }
                start = 0
            }
        } catch let failure as FetchFailure { throw failure.fault } catch let error as SyscallError {
            throw RegistryFault(
                DiagnosticCode(error.errno == ENOSPC || error.errno == EDQUOT ? "no-space" : "store-unusable"),
                [error.sentence])
        } catch { throw .malformed("\(error)") }
    }

    private struct FetchFailure: Error {
        var fault: RegistryFault
        init(_ fault: RegistryFault) { self.fault = fault }
    }

    /// Used by one task at a time.
    private final class Writer: @unchecked Sendable {
        private let descriptor: Int32
        private(set) var position: Int64
        private(set) var failure: Int32?
        init(_ descriptor: Int32, at position: Int64) {
            self.descriptor = descriptor
            self.position = position
        }

        func write(_ buffer: ByteBuffer) -> Bool {
            buffer.withUnsafeReadableBytes { bytes in
                var done = 0
                while done < bytes.count {
                    let n = pwrite(descriptor, bytes.baseAddress! + done, bytes.count - done, Int(position))
                    if n < 0, errno == EINTR { continue }
                    guard n > 0 else {
                        failure = errno
                        return false
                    }
                    done += n
                    position += Int64(n)
                }
                return true
            }
        }
    }
}
