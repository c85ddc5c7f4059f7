import FoundationEssentials
import Glibc
import ImageFormats
import ImageStore
import LinuxSystem
import OCIModel

/// What a served registry holds: the images of a store, and beside them, in a directory of its own,
/// what the store has no place for: indexes, artifacts, images for other machines, uploads in progress.
///
///     blobs/<hex>   uploads/<id>
///     repositories/<name, / as %2F>/{tags/<tag>, manifests/<hex>, referrers/<hex>/<hex>}
///
/// A tag's file holds a digest, a manifest's its media type. Blobs are shared by all repositories.
struct RegistryContent: Sendable {
    let store: ImageStore
    let directory: PrivateDirectory

    struct Manifest: Sendable {
        var digest: Digest
        var mediaType: String
    }

    /// A blob, open for reading.
    final class Blob: Sendable {
        let descriptor: OwnedDescriptor
        let size: Int64
        init(_ descriptor: consuming OwnedDescriptor) throws(SyscallError) {
            var status = stat()
            let raw = descriptor.raw
            try checked("fstat") { fstat(raw, &status) }
            guard status.isFile else { throw SyscallError("open", errno: EISDIR) }
            size = Int64(status.st_size)
            self.descriptor = descriptor
        }
    }

    static func blob(_ digest: Digest) -> String { "blobs/" + digest.hex }
    static func upload(_ id: String) -> String { "uploads/" + id }
    static func partial(_ name: String) -> String { "partial/" + name }
    private func repository(_ name: String) -> String {
        "repositories/" + name.split(separator: "/").joined(separator: "%2F")
    }

    /// Makes the directories, and removes what earlier servers left too long ago to be continued.
    func open() throws(SyscallError) {
        for name in ["blobs", "uploads", "partial", "repositories"] { try directory.makeDirectory(name) }
        if directory.wasOpenToOthers { try takeFromOthers() }
        // Blobs half arrived from upstream are continued; half written small files are not.
        for name in directory.names(in: "partial") where Digest(hex: name) == nil {
            directory.remove(RegistryContent.partial(name))
        }
        prune()
    }

    /// Nothing is believed that others could have put there: directories become private, uploads go, and so do blobs
    /// whose content is not their name's.
    private func takeFromOthers() throws(SyscallError) {
        for name in directory.names(in: "uploads") { directory.remove(RegistryContent.upload(name)) }
        for name in directory.names(in: "partial") { directory.remove(RegistryContent.partial(name)) }
        for name in directory.names(in: "blobs") {
            let path = "blobs/" + name
            if let digest = Digest(hex: name), let blob = try? Blob(directory.open(path, O_RDONLY)),
                ContentHashing.digest(of: blob.descriptor.raw, length: blob.size) == digest
            {
                continue
            }
            directory.remove(path)
        }
        var pending = directory.names(in: "repositories").map { "repositories/" + $0 }
        while let path = pending.popLast() {
            guard let entry = directory.entry(path) else {
                directory.remove(path)
                continue
            }
            guard entry.isDirectory else { continue }
            try directory.makeDirectory(path)
            pending += directory.names(in: path).map { path + "/" + $0 }
        }
    }

    private enum Limit {
        /// Without a byte more, a push was given up, and a blob from upstream is not wanted any more.
        static let uploadSeconds = 86400
        static let partialSeconds = 7 * 86400
        static let manifestBytes = 16 << 20
        static let textBytes = 4096
    }

    /// Removes uploads and partial blobs that nobody has continued for long.
    func prune() {
        for (place, seconds) in [("uploads", Limit.uploadSeconds), ("partial", Limit.partialSeconds)] {
            for name in directory.names(in: place) {
                let path = place + "/" + name
                if let entry = directory.entry(path), time(nil) - entry.modified <= seconds { continue }
                directory.remove(path)
            }
        }
    }

    // MARK: Reading

    /// nil when it is nowhere.
    func blob(_ digest: Digest) -> Blob? {
        if let own = try? Blob(directory.open(RegistryContent.blob(digest), O_RDONLY)) { return own }
        for place in [store] + store.sites {
            if let stored = try? Blob(OwnedDescriptor.open(place.layout.blob(digest), O_RDONLY)) { return stored }
        }
        return nil
    }

    /// Swift 6.3's optimiser fails where this becomes a part of what suspends.
    @inline(never)
    func has(_ digest: Digest) -> Bool { blob(digest) != nil }

    /// A small blob's bytes.
    func bytes(_ digest: Digest) -> [UInt8]? {
        blob(digest).flatMap { try? $0.descriptor.readAll(limit: Limit.manifestBytes) }
    }

    /// By tag or digest; what was pushed here first, then what the store calls so.
    func manifest(_ name: String, _ reference: String) -> Manifest? {
        let place = repository(name)
        if let digest = Digest(reference) ?? text(place + "/tags/" + reference).flatMap({ Digest($0) }),
            let type = text(place + "/manifests/" + digest.hex), blob(digest) != nil
        {
            return Manifest(digest: digest, mediaType: type)
        }
        guard let image = storedImage(name, reference) else { return nil }
        let descriptor = image.record.manifest
        guard blob(descriptor.digest) != nil else { return nil }
        return Manifest(digest: descriptor.digest, mediaType: descriptor.mediaType ?? MediaType.manifest)
    }

    /// `library/x` is asked for by clients that take this for Docker Hub.
    private func spellings(_ name: String) -> [String] {
        name.hasPrefix("library/") ? [name, String(name.dropFirst(8))] : [name]
    }

    private func storedImage(_ name: String, _ reference: String) -> StoredImage? {
        if let digest = Digest(reference) {
            let names = spellings(name)
            let images = (try? store.images()) ?? []
            return images.first { image in
                image.record.manifest.digest == digest
                    && (name == RegistryServer.byDigest
                        || names.contains { ImageReference(image.name)?.repository == $0 })
            }
        }
        for spelling in spellings(name) {
            if let wanted = ImageReference("\(spelling):\(reference)"),
                let image = try? store.image(named: wanted.description)
            {
                return image
            }
        }
        return nil
    }

    /// Sorted; nil when there is no such repository.
    func tags(_ name: String) -> [String]? {
        let pushed = directory.names(in: repository(name) + "/tags")
        let stored = ((try? store.images()) ?? []).compactMap { image -> String? in
            guard let reference = ImageReference(image.name), spellings(name).contains(reference.repository) else {
                return nil
            }
            return reference.tag
        }
        if pushed.isEmpty, stored.isEmpty, directory.entry(repository(name)) == nil { return nil }
        return Set(pushed + stored).sorted { Array($0.utf8).lexicographicallyPrecedes(Array($1.utf8)) }
    }

    func repositories() -> [String] {
        let pushed = directory.names(in: "repositories").map { $0.replacing("%2F", with: "/") }
        let stored = ((try? store.images()) ?? []).compactMap { ImageReference($0.name)?.repository }
        return Set(pushed + stored).sorted()
    }

    func referrers(_ name: String, of subject: Digest) -> [ReferrerDescriptor] {
        let place = repository(name) + "/referrers/" + subject.hex
        return directory.names(in: place).compactMap { file in
            (try? directory.read(place + "/" + file, limit: Limit.manifestBytes)).flatMap {
                try? JSONDecoder().decode(ReferrerDescriptor.self, from: Data($0))
            }
        }
    }

    private func text(_ path: String) -> String? {
        (try? directory.read(path, limit: Limit.textBytes)).map { String(decoding: $0, as: UTF8.self) }
    }

    // MARK: Writing

    private func write(_ bytes: [UInt8], to path: String) throws(SyscallError) {
        let fresh = RegistryContent.partial(String(UInt64.random(in: .min ... .max), radix: 36))
        try directory.write(bytes, to: fresh)
        try directory.rename(fresh, path)
    }

    /// An empty upload; those given up are removed.
    ///
    /// - Returns: its name.
    func makeUpload() throws(SyscallError) -> String {
        prune()
        let halves = (0..<2).map { _ in String(UInt64.random(in: .min ... .max), radix: 36) }
        let id = halves.joined()
        try directory.write([], to: RegistryContent.upload(id))
        return id
    }

    /// Keeps a verified manifest; `tag` is nil when it was pushed by digest.
    func keep(
        _ bytes: [UInt8], _ digest: Digest, type: String, in name: String, tag: String?, subject: Digest?,
        as referrer: ReferrerDescriptor?
    ) throws(SyscallError) {
        let place = repository(name)
        for path in [place, place + "/tags", place + "/manifests"] { try directory.makeDirectory(path) }
        try write(bytes, to: RegistryContent.blob(digest))
        try write(Array(type.utf8), to: place + "/manifests/" + digest.hex)
        if let subject, let referrer, let encoded = try? JSONEncoder().encode(referrer) {
            for path in [place + "/referrers", place + "/referrers/" + subject.hex] {
                try directory.makeDirectory(path)
            }
            try write(Array(encoded), to: place + "/referrers/" + subject.hex + "/" + digest.hex)
        }
        if let tag { try write(Array(digest.description.utf8), to: place + "/tags/" + tag) }
    }

    /// Shares the bytes of blobs that the store now has, too.
    func share(_ digests: [Digest]) {
        for digest in digests {
            let fresh = RegistryContent.partial("share-\(digest.hex)")
            guard directory.link(store.layout.blob(digest), as: fresh) else { continue }
            do throws(SyscallError) { try directory.rename(fresh, RegistryContent.blob(digest)) } catch {
                directory.remove(fresh)
            }
        }
    }

    enum Deletion { case done, unknown, heldByStore }

    func deleteTag(_ name: String, _ tag: String) -> Deletion {
        if directory.remove(repository(name) + "/tags/" + tag) { return .done }
        return storedImage(name, tag) == nil ? .unknown : .heldByStore
    }

    /// Takes the manifest and every tag of it out of the repository.
    func deleteManifest(_ name: String, _ digest: Digest) -> Deletion {
        let place = repository(name)
        guard directory.remove(place + "/manifests/" + digest.hex) else {
            return storedImage(name, digest.description) == nil ? .unknown : .heldByStore
        }
        for tag in directory.names(in: place + "/tags") where text(place + "/tags/" + tag) == digest.description {
            directory.remove(place + "/tags/" + tag)
        }
        for subject in directory.names(in: place + "/referrers") {
            directory.remove(place + "/referrers/" + subject + "/" + digest.hex)
        }
        return .done
    }

    func deleteBlob(_ digest: Digest) -> Deletion {
        let isStored = Files.exists(store.layout.blob(digest))
        let isDone = directory.remove(RegistryContent.blob(digest))
        return isStored ? .heldByStore : isDone ? .done : .unknown
    }
}

/// What a manifest says of itself to those who ask for its subject (distribution-spec, "Listing Referrers").
struct ReferrerDescriptor: Codable, Sendable {
    var mediaType: String
    var digest: Digest
    var size: Int64
    var artifactType: String?
    var annotations: [String: String]?
}
