import FoundationEssentials
import Glibc
import ImageFormats
import LinuxSystem
import OCIModel

/// The members of an image archive, a seekable tar file or a directory: its names indexed, its JSON read.
struct ArchiveContents {
    let descriptor: Int32
    private let isDirectory: Bool
    private var members: [String: Member] = [:]
    private let described = Described()

    private final class Described {
        var count = 0
        /// Files of a directory, open while this is used.
        var files: [String: Member] = [:]
        deinit { for file in files.values { close(file.descriptor) } }
    }

    struct Member {
        var descriptor: Int32
        var offset: Int64
        var length: Int64
        /// Of a symbolic link, relative to its directory.
        var link: String?
    }

    private enum Limit {
        static let members = 100_000
        /// Open files of a directory.
        static let files = 4000
        /// A manifest, index or configuration.
        static let json: Int64 = 8 << 20
        /// A member's name; longer ones are never looked up.
        static let name = 4096
        /// Images, names and manifests together; an index may list the same large manifest over and over.
        static let descriptions = 2000
        static let links = 8
        static let indexDepth = 4
        static let layers = 500
    }

    /// The files below an open directory, links followed inside it only.
    init(directory: Int32) {
        descriptor = directory
        isDirectory = true
    }

    init(_ descriptor: Int32, length: Int64) throws(ArchiveFault) {
        self.descriptor = descriptor
        isDirectory = false
        let reader = TarReader(BufferedChunks(FileRange(descriptor, length: length), bytes: 16 << 10))
        while let entry = try reader.next() {
            guard members.count < Limit.members else {
                throw ArchiveFault(.limit, "too many members for an image archive")
            }
            // A member whose name leads outside is never looked up, so it does no harm.
            guard entry.path.count <= Limit.name, let path = try? EntryPath(entry.path) else { continue }
            let name = String(decoding: path.full, as: UTF8.self)
            switch entry.kind {
            case .file:
                guard entry.segments == nil else { continue }
                guard entry.storedBytes <= length - reader.position else {
                    throw ArchiveFault(.corrupt, entry: entry.path, "truncated: the archive ends in the middle of it")
                }
                members[name] = Member(descriptor: descriptor, offset: reader.position, length: entry.storedBytes)
            case .symbolicLink, .hardLink:
                var link = String(decoding: entry.linkTarget, as: UTF8.self)
                if entry.kind == .hardLink { link = "/" + link }
                members[name] = Member(descriptor: descriptor, offset: 0, length: 0, link: link)
            default: break
            }
        }
    }

    /// Finds `name`, links followed inside the archive.
    private func member(_ name: String) throws(ArchiveFault) -> (name: String, member: Member)? {
        if isDirectory { return try file(name).map { (name, $0) } }
        var name = name
        for _ in 0..<Limit.links {
            guard let member = members[name] else { return nil }
            guard let link = member.link else { return (name, member) }
            let directory = name.lastIndex(of: "/").map { name[...$0] } ?? ""
            let target = link.hasPrefix("/") ? String(link.dropFirst()) : directory + link
            name = String(decoding: try EntryPath(Array(target.utf8)).full, as: UTF8.self)
        }
        throw ArchiveFault(.hostile, entry: Array(name.utf8), "too many levels of symbolic links")
    }

    private func file(_ name: String) throws(ArchiveFault) -> Member? {
        if let known = described.files[name] { return known }
        guard described.files.count < Limit.files else { throw ArchiveFault(.limit, "too many files in one layout") }
        let raw = DirectoryTree.open(
            Array(name.utf8), below: descriptor, flags: UInt64(O_RDONLY | O_NONBLOCK | O_CLOEXEC))
        guard raw >= 0 else {
            if errno == ENOENT || errno == ENOTDIR { return nil }
            throw ArchiveFault(SyscallError("open", name), entry: Array(name.utf8))
        }
        var status = stat()
        guard fstat(raw, &status) == 0, status.isFile else {
            close(raw)
            throw ArchiveFault(.hostile, entry: Array(name.utf8), "not a regular file")
        }
        let member = Member(descriptor: raw, offset: 0, length: Int64(status.st_size))
        described.files[name] = member
        return member
    }

    private func bytes(_ name: String) throws(ArchiveFault) -> [UInt8]? {
        described.count += 1
        guard described.count <= Limit.descriptions else {
            throw ArchiveFault(.limit, "more than \(Limit.descriptions) images and manifests in one archive")
        }
        guard let (_, member) = try member(name) else { return nil }
        guard member.length <= Limit.json else {
            throw ArchiveFault(.limit, entry: Array(name.utf8), "\(member.length) bytes are too many for a description")
        }
        var bytes = [UInt8](repeating: 0, count: Int(member.length))
        var filled = 0
        let range = FileRange(member.descriptor, offset: member.offset, length: member.length)
        while filled < bytes.count {
            var fault: ArchiveFault?
            let n = bytes.withUnsafeMutableBytes { buffer -> Int in
                do throws(ArchiveFault) {
                    return try range.read(into: UnsafeMutableRawBufferPointer(rebasing: buffer[filled...]))
                } catch {
                    fault = error
                    return 0
                }
            }
            if let fault { throw fault }
            filled += n
        }
        return bytes
    }

    private func decode<T: Decodable>(_ type: T.Type, _ bytes: [UInt8], _ name: String) throws(ArchiveFault) -> T {
        do { return try JSONDecoder().decode(type, from: Data(bytes)) } catch {
            throw ArchiveFault(.corrupt, entry: Array(name.utf8), "not valid: \(ArchiveContents.sentence(error))")
        }
    }

    private static func sentence(_ error: any Error) -> String {
        func path(_ keys: [any CodingKey]) -> String { keys.map { $0.stringValue }.joined(separator: ".") }
        switch error as? DecodingError {
        case .keyNotFound(let key, let context): return "'\(path(context.codingPath + [key]))' is missing"
        case .typeMismatch(_, let context), .valueNotFound(_, let context):
            return "'\(path(context.codingPath))' has the wrong type"
        case .dataCorrupted(let context):
            return context.codingPath.isEmpty
                ? "the JSON is malformed" : "'\(path(context.codingPath))': \(context.debugDescription)"
        default: return "\(error)"
        }
    }

    /// The images in the archive that run on `platform`.
    ///
    /// - Throws: also when there are images, but none for `platform`; the message lists what is offered.
    func images(for platform: Platform) throws(ArchiveFault) -> [IncomingImage] {
        // Archives of newer dockers are both; the index carries digests to verify against.
        if let layout = try bytes("index.json") {
            let index = try decode(ImageIndex.self, layout, "index.json")
            let images = try ociImages(index, platform)
            if !images.isEmpty { return try withDockerNames(images) }
        }
        if let manifest = try bytes("manifest.json") {
            let entries = try decode([DockerArchiveEntry].self, manifest, "manifest.json")
            var images: [IncomingImage] = []
            for entry in entries { images.append(try dockerImage(entry)) }
            let fitting = images.filter { platform.accepts($0.configuration.platform ?? platform) }
            guard !fitting.isEmpty || images.isEmpty else {
                throw wrongPlatform(platform, images.compactMap(\.configuration.platform))
            }
            if !fitting.isEmpty { return fitting }
        }
        if try member("repositories") != nil {
            throw ArchiveFault(
                .unsupported, "a docker archive of the format before docker 1.10, without manifest.json")
        }
        throw ArchiveFault(
            .corrupt,
            "not an image\(isDirectory ? " layout" : " archive"): it holds neither manifest.json nor an index.json with images"
        )
    }

    private func wrongPlatform(_ wanted: Platform, _ offered: [Platform]) -> ArchiveFault {
        let list = Set(offered.map(\.description)).sorted().joined(separator: ", ")
        return ArchiveFault(.unsupported, "no image for \(wanted); the archive offers \(list.isEmpty ? "none" : list)")
    }

    // MARK: docker-archive

    private func dockerImage(_ entry: DockerArchiveEntry) throws(ArchiveFault) -> IncomingImage {
        func lookUp(_ name: String, _ what: String) throws(ArchiveFault) -> (name: String, member: Member) {
            guard !name.hasPrefix("/"), !name.split(separator: "/").contains("..") else {
                throw ArchiveFault(
                    .hostile, entry: Array(name.utf8), "manifest.json names a \(what) outside the archive")
            }
            guard let found = try member(name) else {
                throw ArchiveFault(.corrupt, entry: Array(name.utf8), "the \(what) named by manifest.json is missing")
            }
            return found
        }
        _ = try lookUp(entry.config, "configuration")
        guard let bytes = try bytes(entry.config) else { throw ArchiveFault(.corrupt, "no configuration") }
        let digest = Digest(sha256: bytes)
        // Archives name the file by its digest; where they do, the name must be true.
        let stem =
            entry.config.split(separator: "/").last.map { $0.hasSuffix(".json") ? $0.dropLast(5) : $0[...] } ?? ""
        if let claimed = Digest(hex: stem), claimed != digest {
            throw ArchiveFault(
                .corrupt, entry: Array(entry.config.utf8), "config digest mismatch: its content is \(digest)")
        }
        let configuration = try decode(ImageConfiguration.self, bytes, entry.config)
        let diffIDs = configuration.rootFileSystem?.diffIDs ?? []
        let names = entry.layers ?? []
        guard names.count == diffIDs.count, names.count <= Limit.layers else {
            throw ArchiveFault(
                .corrupt, entry: Array(entry.config.utf8),
                "manifest.json lists \(names.count) layers, the configuration \(diffIDs.count)")
        }
        var layers: [IncomingLayer] = []
        for (name, diffID) in zip(names, diffIDs) {
            let found = try lookUp(name, "layer")
            var layer = IncomingLayer(
                name: name, in: found.member.descriptor, offset: found.member.offset, length: found.member.length,
                diffID: diffID)
            layer.isPlain = try compression(of: found.member) == Compression.none
            layers.append(layer)
        }
        return IncomingImage(
            names: (entry.repoTags ?? []).compactMap { ImageReference($0) }, manifest: nil, configurationBytes: bytes,
            configurationDigest: digest, configuration: configuration, layers: layers)
    }

    /// How a member is compressed, from its first bytes; nil for one that is not read here.
    private func compression(of member: Member) throws(ArchiveFault) -> Compression? {
        let start = UnsafeMutableRawBufferPointer.allocate(byteCount: Compression.magicBytes, alignment: 1)
        defer { start.deallocate() }
        let n = try FileRange(member.descriptor, offset: member.offset, length: member.length).read(into: start)
        return try? Compression.detect(start[..<n])
    }

    // MARK: OCI archive

    private func ociImages(_ index: ImageIndex, _ platform: Platform) throws(ArchiveFault) -> [IncomingImage] {
        var images: [IncomingImage] = []
        var offered: [Platform] = []
        var seen: [Digest: Int] = [:]
        for descriptor in index.manifests where !descriptor.isAttestation && !descriptor.isSignature {
            guard let image = try ociImage(descriptor, platform, depth: 0, &offered) else { continue }
            let digest = image.manifest!.descriptor.digest
            let names = name(of: descriptor).map { [$0] } ?? []
            if let known = seen[digest] {
                images[known].names += names.filter { !images[known].names.contains($0) }
            } else {
                seen[digest] = images.count
                images.append(image)
                images[images.count - 1].names = names
            }
        }
        if images.isEmpty, !offered.isEmpty { throw wrongPlatform(platform, offered) }
        return images
    }

    /// containerd's annotation is the whole name; the layout's own is a name or, from some tools, a mere tag.
    private func name(of descriptor: Descriptor) -> ImageReference? {
        (descriptor.annotations?["io.containerd.image.name"]
            ?? descriptor.annotations?["org.opencontainers.image.ref.name"])
            .flatMap { ImageReference($0) }
    }

    /// Newer dockers' archives name images in manifest.json alone when their index does not.
    private func withDockerNames(_ images: [IncomingImage]) throws(ArchiveFault) -> [IncomingImage] {
        guard images.allSatisfy({ $0.names.isEmpty }), let manifest = try bytes("manifest.json") else { return images }
        var images = images
        for entry in try decode([DockerArchiveEntry].self, manifest, "manifest.json") {
            let stem = entry.config.split(separator: "/").last.map(String.init) ?? ""
            for i in images.indices where stem.hasPrefix(images[i].configurationDigest.hex) {
                images[i].names = (entry.repoTags ?? []).compactMap { ImageReference($0) }
            }
        }
        return images
    }

    private func blob(_ descriptor: Descriptor, _ what: String) throws(ArchiveFault) -> (name: String, member: Member) {
        let name = "blobs/sha256/\(descriptor.digest.hex)"
        guard let found = try member(name) else {
            throw ArchiveFault(.corrupt, entry: Array(name.utf8), "the \(what) is missing from the archive")
        }
        guard found.member.length == descriptor.size else {
            throw ArchiveFault(
                .corrupt, entry: Array(name.utf8),
                "the \(what) is \(found.member.length) bytes, its descriptor says \(descriptor.size)")
        }
        return found
    }

    func verified(_ descriptor: Descriptor, _ what: String) throws(ArchiveFault) -> [UInt8] {
        let found = try blob(descriptor, what)
        let bytes = try bytes(found.name) ?? []
        let digest = Digest(sha256: bytes)
        guard digest == descriptor.digest else {
            throw ArchiveFault(
                .corrupt, entry: Array(found.name.utf8),
                "\(what) digest mismatch: expected \(descriptor.digest), found \(digest)")
        }
        return bytes
    }

    private func ociImage(
        _ descriptor: Descriptor, _ platform: Platform, depth: Int, _ offered: inout [Platform]
    ) throws(ArchiveFault) -> IncomingImage? {
        let name = "blobs/sha256/\(descriptor.digest.hex)"
        if let claimed = descriptor.platform, !platform.accepts(claimed), !descriptor.isIndex {
            offered.append(claimed)
            return nil
        }
        let bytes = try verified(descriptor, descriptor.isIndex ? "index" : "manifest")
        if descriptor.isIndex {
            guard depth < Limit.indexDepth else {
                throw ArchiveFault(.limit, entry: Array(name.utf8), "indexes nested too deep")
            }
            for child in try decode(ImageIndex.self, bytes, name).manifests where !child.isAttestation {
                if let image = try ociImage(child, platform, depth: depth + 1, &offered) { return image }
            }
            return nil
        }
        let manifest = try decode(ImageManifest.self, bytes, name)
        let type = manifest.config.mediaType ?? ""
        guard type == MediaType.configuration || type == "application/vnd.docker.container.image.v1+json" else {
            throw ArchiveFault(
                .unsupported, entry: Array(name.utf8), "not a container image: its configuration is '\(type)'")
        }
        let configurationBytes = try verified(manifest.config, "config")
        let configuration = try decode(
            ImageConfiguration.self, configurationBytes, "blobs/sha256/\(manifest.config.digest.hex)")
        if let claimed = configuration.platform, !platform.accepts(claimed) {
            offered.append(claimed)
            return nil
        }
        return IncomingImage(
            names: [], manifest: (bytes, descriptor), configurationBytes: configurationBytes,
            configurationDigest: manifest.config.digest, configuration: configuration,
            layers: try ociLayers(manifest, configuration, name))
    }

    /// The layers of manifests that are signatures of `manifest`.
    func signatureLayers(of manifest: Digest) throws(ArchiveFault) -> [Descriptor] {
        guard let layout = try bytes("index.json") else {
            throw ArchiveFault(.corrupt, "not an image layout: it holds no index.json")
        }
        let index = try decode(ImageIndex.self, layout, "index.json")
        var layers: [Descriptor] = []
        for descriptor in index.manifests where !descriptor.isIndex {
            let isNamed = descriptor.annotations?[Annotation.name]?.hasSuffix("sha256-\(manifest.hex).sig") ?? false
            let isMarked = descriptor.annotations?["kind"] == "dev.cosignproject.cosign/sigs"
            guard isNamed || isMarked || descriptor.digest != manifest else { continue }
            let name = "blobs/sha256/\(descriptor.digest.hex)"
            let signature = try decode(SignatureManifest.self, try verified(descriptor, "manifest"), name)
            guard isNamed || isMarked || signature.subject?.digest == manifest else { continue }
            layers += signature.layers
        }
        return layers
    }

    private func ociLayers(
        _ manifest: ImageManifest, _ configuration: ImageConfiguration, _ name: String
    ) throws(ArchiveFault) -> [IncomingLayer] {
        let diffIDs = configuration.rootFileSystem?.diffIDs ?? []
        guard diffIDs.count == manifest.layers.count, diffIDs.count <= Limit.layers else {
            throw ArchiveFault(
                .corrupt, entry: Array(name.utf8),
                "the manifest lists \(manifest.layers.count) layers, the configuration \(diffIDs.count)")
        }
        var layers: [IncomingLayer] = []
        for (descriptor, diffID) in zip(manifest.layers, diffIDs) {
            let type = descriptor.mediaType ?? MediaType.layer
            guard type.contains(".layer.") || type.contains(".rootfs.") else {
                throw ArchiveFault(.unsupported, entry: Array(name.utf8), "a layer of type '\(type)'")
            }
            let found = try blob(descriptor, descriptor.isForeign ? "layer, which may be kept elsewhere," : "layer")
            layers.append(
                IncomingLayer(
                    name: found.name, in: found.member.descriptor, offset: found.member.offset,
                    length: found.member.length,
                    diffID: diffID, blobDigest: descriptor.digest))
        }
        return layers
    }
}
