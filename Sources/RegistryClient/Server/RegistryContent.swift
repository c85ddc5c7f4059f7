import FoundationEssentials
import Glibc
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
    let root: String

    struct Manifest: Sendable {
        var digest: Digest
        var mediaType: String
        var path: String
    }

    var blobs: String { root + "/blobs" }
    var uploads: String { root + "/uploads" }
    var partial: String { root + "/partial" }
    private func repository(_ name: String) -> String {
        root + "/repositories/" + name.split(separator: "/").joined(separator: "%2F")
    }

    /// Makes the directories, and removes what earlier servers left too long ago to be continued.
    func open() throws(SyscallError) {
        try Files.makeDirectories(root)
        for directory in [blobs, uploads, partial, root + "/repositories"] {
            try Files.makeDirectory(directory)
        }
        // Blobs half arrived from upstream are continued; half written small files are not.
        for name in try Files.names(in: partial) where Digest(hex: name) == nil { unlink(partial + "/" + name) }
        prune()
    }

    private enum Limit {
        /// Without a byte more, a push was given up, and a blob from upstream is not wanted any more.
        static let uploadSeconds = 86400
        static let partialSeconds = 7 * 86400
    }

    /// Removes uploads and partial blobs that nobody has continued for long.
    func prune() {
        for (directory, seconds) in [(uploads, Limit.uploadSeconds), (partial, Limit.partialSeconds)] {
            for name in (try? Files.names(in: directory)) ?? [] {
                var status = stat()
                let path = directory + "/" + name
                if lstat(path, &status) == 0, time(nil) - status.st_mtim.tv_sec > seconds { unlink(path) }
            }
        }
    }

    // MARK: Reading

    /// Where a blob lies; nil when it is nowhere.
    func blob(_ digest: Digest) -> (path: String, size: Int64)? {
        for path in [blobs + "/" + digest.hex] + ([store] + store.sites).map({ $0.layout.blob(digest) }) {
            var status = stat()
            if stat(path, &status) == 0 { return (path, Int64(status.st_size)) }
        }
        return nil
    }

    /// By tag or digest; what was pushed here first, then what the store calls so.
    func manifest(_ name: String, _ reference: String) -> Manifest? {
        let directory = repository(name)
        if let digest = Digest(reference) ?? text(directory + "/tags/" + reference).flatMap({ Digest($0) }),
            let type = text(directory + "/manifests/" + digest.hex), let blob = blob(digest)
        {
            return Manifest(digest: digest, mediaType: type, path: blob.path)
        }
        guard let image = storedImage(name, reference) else { return nil }
        let descriptor = image.record.manifest
        guard let blob = blob(descriptor.digest) else { return nil }
        return Manifest(
            digest: descriptor.digest, mediaType: descriptor.mediaType ?? MediaType.manifest, path: blob.path)
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
        let pushed = (try? Files.names(in: repository(name) + "/tags")) ?? []
        let stored = ((try? store.images()) ?? []).compactMap { image -> String? in
            guard let reference = ImageReference(image.name), spellings(name).contains(reference.repository) else {
                return nil
            }
            return reference.tag
        }
        if pushed.isEmpty, stored.isEmpty, !Files.exists(repository(name)) { return nil }
        return Set(pushed + stored).sorted { Array($0.utf8).lexicographicallyPrecedes(Array($1.utf8)) }
    }

    func repositories() -> [String] {
        let pushed = ((try? Files.names(in: root + "/repositories")) ?? [])
            .map { $0.replacing("%2F", with: "/") }
        let stored = ((try? store.images()) ?? []).compactMap { ImageReference($0.name)?.repository }
        return Set(pushed + stored).sorted()
    }

    func referrers(_ name: String, of subject: Digest) -> [ReferrerDescriptor] {
        let directory = repository(name) + "/referrers/" + subject.hex
        return ((try? Files.names(in: directory)) ?? []).compactMap { file in
            (try? Files.read(directory + "/" + file)).flatMap {
                try? JSONDecoder().decode(ReferrerDescriptor.self, from: Data($0))
            }
        }
    }

    private func text(_ path: String) -> String? {
        (try? Files.read(path, limit: 4096)).map { String(decoding: $0, as: UTF8.self) }
    }

    // MARK: Writing

    private func write(_ bytes: [UInt8], to path: String) throws(SyscallError) {
        let fresh = "\(partial)/\(String(UInt64.random(in: .min ... .max), radix: 36))"
        try Files.write(bytes, to: fresh)
        try Files.rename(fresh, path)
    }

    /// Keeps a verified manifest; `tag` is nil when it was pushed by digest.
    func keep(
        _ bytes: [UInt8], _ digest: Digest, type: String, in name: String, tag: String?, subject: Digest?,
        as referrer: ReferrerDescriptor?
    ) throws(SyscallError) {
        let directory = repository(name)
        for path in [directory, directory + "/tags", directory + "/manifests"] { try Files.makeDirectory(path) }
        try write(bytes, to: blobs + "/" + digest.hex)
        try write(Array(type.utf8), to: directory + "/manifests/" + digest.hex)
        if let subject, let referrer, let encoded = try? JSONEncoder().encode(referrer) {
            for path in [directory + "/referrers", directory + "/referrers/" + subject.hex] {
                try Files.makeDirectory(path)
            }
            try write(Array(encoded), to: directory + "/referrers/" + subject.hex + "/" + digest.hex)
        }
        if let tag { try write(Array(digest.description.utf8), to: directory + "/tags/" + tag) }
    }

    /// Shares the bytes of blobs that the store now has, too.
    func share(_ digests: [Digest]) {
        for digest in digests {
            let fresh = "\(partial)/share-\(digest.hex)"
            if link(store.layout.blob(digest), fresh) == 0, rename(fresh, blobs + "/" + digest.hex) != 0 {
                unlink(fresh)
            }
        }
    }

    enum Deletion { case done, unknown, heldByStore }

    func deleteTag(_ name: String, _ tag: String) -> Deletion {
        if unlink(repository(name) + "/tags/" + tag) == 0 { return .done }
        return storedImage(name, tag) == nil ? .unknown : .heldByStore
    }

    /// Takes the manifest and every tag of it out of the repository.
    func deleteManifest(_ name: String, _ digest: Digest) -> Deletion {
        let directory = repository(name)
        guard unlink(directory + "/manifests/" + digest.hex) == 0 else {
            return storedImage(name, digest.description) == nil ? .unknown : .heldByStore
        }
        for tag in (try? Files.names(in: directory + "/tags")) ?? []
        where text(directory + "/tags/" + tag) == digest.description {
            unlink(directory + "/tags/" + tag)
        }
        for subject in (try? Files.names(in: directory + "/referrers")) ?? [] {
            unlink(directory + "/referrers/" + subject + "/" + digest.hex)
        }
        return .done
    }

    func deleteBlob(_ digest: Digest) -> Deletion {
        let isStored = Files.exists(store.layout.blob(digest))
        let isDone = unlink(blobs + "/" + digest.hex) == 0
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
