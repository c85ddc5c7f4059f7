import AsyncHTTPClient
import FoundationEssentials
import Glibc
import ImageStore
import LinuxSystem
import NIOCore
import NIOHTTP1
import OCIModel
import Synchronization

/// The registry behind this one. What comes from it is kept; each blob is fetched once, however many
/// clients ask for it at the same time, and they read it while it arrives.
final class Upstream: Sendable {
    private let transport: Transport
    private let endpoint: RegistryEndpoint
    private let isDockerHub: Bool
    private let credential: CredentialSource
    private let content: RegistryContent
    private let arriving = Mutex<[Digest: ArrivingBlob]>([:])
    private let registries = Mutex<[String: Registry]>([:])

    init(_ url: String, settings: RegistrySettings, content: RegistryContent) throws(RegistryFault) {
        let endpoint = RegistryEndpoint(mirror: url)
        self.endpoint = endpoint
        self.content = content
        let name = endpoint.authority == "registry-1.docker.io" ? RemoteReference.dockerHub : endpoint.authority
        isDockerHub = name == RemoteReference.dockerHub
        credential = settings.credential(for: name, "")
        transport = Transport(settings)
    }

    private func registry(_ repository: String) -> Registry {
        let name = isDockerHub && !repository.contains("/") ? "library/" + repository : repository
        return registries.withLock { registries in
            if let known = registries[name] { return known }
            let made = Registry(transport, endpoint, scope: Scope.pull(name), repository: name, credential: credential)
            registries[name] = made
            return made
        }
    }

    /// A manifest from upstream, kept here under its tag; nil when upstream has none.
    ///
    /// - Throws: when upstream cannot be asked.
    func manifest(_ repository: String, _ reference: String) async throws(RegistryFault) -> RegistryContent.Manifest? {
        let found: RemoteManifest
        do throws(RegistryFault) {
            found = try await registry(repository).manifest(reference, expecting: Digest(reference))
        } catch {
            if error.code == .registryNotFound { return nil }
            throw error
        }
        do throws(SyscallError) {
            try content.keep(
                found.bytes, found.digest, type: found.mediaType, in: repository,
                tag: Digest(reference) == nil ? reference : nil, subject: nil, as: nil)
        } catch { throw RegistryFault(.registryServe, [error.sentence]) }
        return content.manifest(repository, found.digest.description)
    }

    /// A blob on its way from upstream, for which a manifest kept here vouches with its size.
    func blob(_ repository: String, _ digest: Digest) async throws(RegistryFault) -> ArrivingBlob? {
        if let known = arriving.withLock({ $0[digest] }) { return known }
        let registry = registry(repository)
        let head = RegistryRequest(method: .HEAD, url: registry.url("blobs/\(digest)"))
        let answer = try await registry.send(head, accepting: [200, 404], what: "blob \(digest)")
        guard answer.status.code == 200, let size = answer.headers.first(name: "Content-Length").flatMap(Int64.init),
            size >= 0
        else { return nil }
        return try arriving.withLock { arriving throws(RegistryFault) in
            if let known = arriving[digest] { return known }
            let descriptor = Descriptor(mediaType: nil, digest: digest, size: size)
            let blob: ArrivingBlob
            do throws(SyscallError) { blob = try ArrivingBlob(descriptor, in: content.directory) } catch {
                throw RegistryFault(.registryServe, [error.sentence])
            }
            arriving[digest] = blob
            Task {
                await blob.fetch(from: registry)
                self.arriving.withLock { $0[digest] = nil }
            }
            return blob
        }
    }
}

/// A blob that is being received into a file, and read by any number of clients meanwhile.
final class ArrivingBlob: Sendable {
    let size: Int64
    private let descriptor: Descriptor
    private let path: String
    private let directory: PrivateDirectory
    private let file: OwnedDescriptor
    private let arrived = Atomic<Int64>(0)
    private let hasFailed = Atomic<Bool>(false)

    init(_ descriptor: Descriptor, in directory: PrivateDirectory) throws(SyscallError) {
        self.descriptor = descriptor
        self.directory = directory
        path = RegistryContent.partial(descriptor.digest.hex)
        size = descriptor.size
        file = try directory.open(path, O_RDWR | O_CREAT)
        let raw = file.raw
        // One writer, also beside another server of this directory.
        try checked("flock", path) { flock(raw, LOCK_EX | LOCK_NB) }
        // What an earlier transfer left is not asked for again; the digest is taken over all of it.
        var status = stat()
        try checked("fstat", path) { fstat(raw, &status) }
        let there = Int64(status.st_size)
        if there > size { try checked("ftruncate", path) { ftruncate(raw, 0) } }
        arrived.store(there > size ? 0 : there, ordering: .relaxed)
    }

    /// Receives all of it, and makes a blob of it when its digest is right.
    fileprivate func fetch(from registry: Registry) async {
        let raw = file.raw
        do throws(RegistryFault) {
            var transfer = BlobTransfer(descriptor, from: registry, what: "blob \(descriptor.digest)")
            transfer.start = arrived.load(ordering: .relaxed)
            try await transfer.receive { buffer in
                let at = self.arrived.load(ordering: .relaxed)
                let isWritten = buffer.withUnsafeReadableBytes { bytes in
                    var done = 0
                    while done < bytes.count {
                        let n = pwrite(raw, bytes.baseAddress! + done, bytes.count - done, Int(at) + done)
                        if n < 0, errno == EINTR { continue }
                        guard n > 0 else { return false }
                        done += n
                    }
                    return true
                }
                if isWritten { self.arrived.store(at + Int64(buffer.readableBytes), ordering: .releasing) }
                return isWritten
            }
            guard ContentHashing.digest(of: raw, length: size) == descriptor.digest else {
                throw RegistryFault(.contentMismatch, ["digest mismatch"])
            }
            do throws(SyscallError) { try directory.rename(path, RegistryContent.blob(descriptor.digest)) } catch {
                throw RegistryFault(.registryServe, [error.sentence])
            }
        } catch {
            if error.code == .contentMismatch { directory.remove(path) }
            hasFailed.store(true, ordering: .releasing)
        }
    }

    /// Delivers the blob from `offset` on, as it arrives.
    ///
    /// - Throws: when it will not arrive; the client sees its connection cut.
    func read(from offset: Int64, _ deliver: (ByteBuffer) async throws -> Void) async throws {
        var position = offset
        while position < size {
            let there = arrived.load(ordering: .acquiring)
            guard there > position else {
                if hasFailed.load(ordering: .acquiring) {
                    throw RegistryFault(.registryUnreachable, ["upstream broke off"])
                }
                try await Task.sleep(nanoseconds: 2_000_000)
                continue
            }
            let wanted = Int(min(there - position, 256 << 10))
            let (raw, at) = (file.raw, Int(position))
            var buffer = ByteBuffer()
            let n = buffer.writeWithUnsafeMutableBytes(minimumWritableBytes: wanted) {
                max(0, pread(raw, $0.baseAddress, wanted, at))
            }
            guard n > 0 else { throw SyscallError("pread", path, errno: EIO) }
            position += Int64(n)
            try await deliver(buffer)
        }
    }
}
