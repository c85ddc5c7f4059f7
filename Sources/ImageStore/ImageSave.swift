import Diagnostics
import FoundationEssentials
import Glibc
import ImageFormats
import LinuxSystem
import OCIModel

/// How images leave the store.
package enum SaveFormat: String, CaseIterable, Sendable {
    /// What docker 25 and newer write: an OCI layout in a tar file with docker's `manifest.json` beside it.
    case dockerArchive = "docker-archive"
    /// An OCI layout in a tar file.
    case ociArchive = "oci-archive"
    /// An OCI layout as a directory.
    case ociDirectory = "oci-dir"
}

/// One image to save, under some of its names.
package struct SavedImage: Sendable {
    package var image: StoredImage
    /// Empty for an image without a name.
    package var names: [String]
    package init(image: StoredImage, names: [String]) {
        self.image = image
        self.names = names
    }
}

extension ImageStore {
    /// Writes images as one archive. Blobs leave as they came in, byte for byte, and are hashed on the
    /// way: a damaged one is a failure, not an archive.
    ///
    /// - Parameters:
    ///   - output: a file or a pipe, open for writing.
    ///   - subject: the archive as the user named it.
    ///   - progress: bytes written and bytes to come, now and then.
    /// - Throws: `store-damaged`, `archive-unwritable`, `no-space`.
    package func save(
        _ images: [SavedImage], as format: SaveFormat, to output: borrowing OwnedDescriptor, subject: String,
        progress: (Int64, Int64) -> Void = { _, _ in }
    ) throws(Diagnostic) {
        let parts = try SavedParts(images)
        let writer = TarWriter(output.raw)
        do throws(ArchiveFault) {
            try writer.directory("blobs")
            try writer.directory("blobs/sha256")
            var done: Int64 = 0
            for blob in parts.blobs {
                try writer.file("blobs/sha256/\(blob.digest.hex)", size: blob.size)
                try blob.copy { (piece) throws(ArchiveFault) in
                    try writer.write(piece)
                    done += Int64(piece.count)
                    progress(done, parts.bytes)
                }
            }
            try writer.file("index.json", parts.index)
            if format == .dockerArchive { try writer.file("manifest.json", parts.dockerManifest) }
            try writer.file("oci-layout", SavedParts.marker)
            try writer.finish()
        } catch { throw unwritable(error, subject) }
    }

    /// Adds images to an OCI layout directory, which is made when it is missing.
    ///
    /// - Throws: `archive-unwritable` also when the directory holds something else.
    package func save(
        _ images: [SavedImage], toLayout path: String, progress: (Int64, Int64) -> Void = { _, _ in }
    ) throws(Diagnostic) {
        let parts = try SavedParts(images)
        do throws(SyscallError) {
            try Files.makeDirectories(path)
            let isEmpty = try Files.names(in: path).isEmpty
            guard isEmpty || Files.exists(path + "/oci-layout") else {
                throw SyscallError("mkdir", path, errno: ENOTEMPTY)
            }
            for directory in ["/blobs", "/blobs/sha256"] { try Files.makeDirectory(path + directory) }
        } catch { throw unwritable(ArchiveFault(error), path) }
        do throws(ArchiveFault) {
            var done: Int64 = 0
            for blob in parts.blobs {
                let target = "\(path)/blobs/sha256/\(blob.digest.hex)"
                let staged = "\(target).\(getpid())"
                do throws(ArchiveFault) {
                    let file = try SavedParts.create(staged)
                    try blob.copy { (piece) throws(ArchiveFault) in
                        try FileCopy.writeAll(piece, to: file.raw)
                        done += Int64(piece.count)
                        progress(done, parts.bytes)
                    }
                    try SavedParts.moved(staged, target)
                } catch {
                    unlink(staged)
                    throw error
                }
            }
            var index = ImageIndex(manifests: parts.descriptors)
            if let old = try? Files.read(path + "/index.json"),
                let known = try? JSONDecoder().decode(ImageIndex.self, from: Data(old))
            {
                let names = Set(parts.descriptors.compactMap { $0.annotations?[Annotation.name] })
                index.manifests = known.manifests.filter { descriptor in
                    guard let name = descriptor.annotations?[Annotation.name] else {
                        return !parts.descriptors.contains { $0.digest == descriptor.digest }
                    }
                    return !names.contains(name)
                }
                index.manifests += parts.descriptors
            }
            try SavedParts.write(SavedParts.encoded(index), to: path + "/index.json")
            try SavedParts.write(SavedParts.marker, to: path + "/oci-layout")
        } catch { throw unwritable(error, path) }
    }

    private func unwritable(_ fault: ArchiveFault, _ subject: String) -> Diagnostic {
        if fault.kind == .corrupt {
            return Diagnostic(
                DiagnosticCode("store-damaged"), fault.entry, reasons: [fault.reason],
                remedies: ["trireme image verify", "load or pull the image again"])
        }
        return Diagnostic(DiagnosticCode("archive-unwritable"), subject, reasons: [fault.reason])
    }
}

/// The words of an image layout's annotations.
enum Annotation {
    static let name = "org.opencontainers.image.ref.name"
    /// containerd and docker keep the whole name here.
    static let fullName = "io.containerd.image.name"
}

/// What an archive of some images consists of.
private struct SavedParts {
    static let marker = Array("{\"imageLayoutVersion\":\"1.0.0\"}".utf8)
    var blobs: [SavedBlob] = []
    var descriptors: [Descriptor] = []
    private var docker: [DockerArchiveEntry] = []

    var bytes: Int64 { blobs.reduce(0) { $0 + $1.size } }
    var index: [UInt8] { SavedParts.encoded(ImageIndex(manifests: descriptors)) }
    var dockerManifest: [UInt8] { SavedParts.encoded(docker) }

    init(_ images: [SavedImage]) throws(Diagnostic) {
        var seen: Set<Digest> = []
        for saved in images {
            let record = saved.image.record
            func path(_ digest: Digest) -> String { "blobs/sha256/\(digest.hex)" }
            let digests = [record.configuration, record.manifest.digest] + record.layers.map(\.blob.digest)
            for digest in digests where seen.insert(digest).inserted {
                blobs.append(try SavedBlob(digest, saved.image))
            }
            var descriptor = record.manifest
            descriptor.platform = record.platform
            for name in saved.names {
                descriptor.annotations = [Annotation.name: name]
                if let full = ImageReference(name)?.qualified { descriptor.annotations?[Annotation.fullName] = full }
                descriptors.append(descriptor)
            }
            if saved.names.isEmpty { descriptors.append(descriptor) }
            docker.append(
                DockerArchiveEntry(
                    config: path(record.configuration), repoTags: saved.names,
                    layers: record.layers.map { path($0.blob.digest) }))
        }
    }

    static func encoded(_ value: some Encodable) -> [UInt8] {
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
        // Strings, numbers and arrays of them always encode.
        return (try? encoder.encode(value)).map(Array.init) ?? []
    }

    static func create(_ path: String) throws(ArchiveFault) -> OwnedDescriptor {
        do throws(SyscallError) {
            return try OwnedDescriptor.open(path, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW, mode: 0o644)
        } catch { throw ArchiveFault(error) }
    }

    static func moved(_ from: String, _ to: String) throws(ArchiveFault) {
        do throws(SyscallError) { try Files.rename(from, to) } catch { throw ArchiveFault(error) }
    }

    static func write(_ bytes: [UInt8], to path: String) throws(ArchiveFault) {
        let staged = "\(path).\(getpid())"
        do throws(SyscallError) {
            try Files.write(bytes, to: staged)
            try Files.rename(staged, path)
        } catch {
            unlink(staged)
            throw ArchiveFault(error)
        }
    }
}

/// One blob of the store, read to be checked.
private struct SavedBlob {
    let digest: Digest
    let size: Int64
    private let path: String
    private let image: String

    init(_ digest: Digest, _ image: StoredImage) throws(Diagnostic) {
        self.digest = digest
        self.image = image.name
        path = image.layout.blob(digest)
        var status = stat()
        guard stat(path, &status) == 0 else {
            throw Diagnostic(
                DiagnosticCode("store-damaged"), image.name, reasons: [SyscallError("stat", path).sentence],
                remedies: ["load or pull the image again"])
        }
        size = Int64(status.st_size)
    }

    func copy(_ take: (UnsafeRawBufferPointer) throws(ArchiveFault) -> Void) throws(ArchiveFault) {
        let file: OwnedDescriptor
        do throws(SyscallError) { file = try OwnedDescriptor.open(path, O_RDONLY) } catch { throw ArchiveFault(error) }
        let chunks = BufferedChunks(FileRange(file.raw, length: size))
        var hash = ContentHash()
        while let chunk = try chunks.nextChunk() {
            hash.update(chunk)
            try take(chunk)
        }
        let found = hash.finish()
        guard found == digest else {
            throw ArchiveFault(.corrupt, entry: Array(image.utf8), "blob \(digest) is damaged: its content is \(found)")
        }
    }
}
