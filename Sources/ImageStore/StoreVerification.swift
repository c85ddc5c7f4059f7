import Diagnostics
import FoundationEssentials
import Glibc
import ImageFormats
import LaunchPlan
import LinuxSystem
import OCIModel

/// Something in the store that is not what it should be.
package struct Damage: Sendable, Encodable {
    package enum Kind: String, Sendable, Encodable { case blob, layer, record, index, plan }
    package var kind: Kind
    /// The digest or file.
    package var what: String
    /// What is wrong, a few facts.
    package var reasons: [String]
    /// Images that use it, by name.
    package var images: [String]
    /// It was put right.
    package var isRepaired = false
}

extension ImageStore {
    /// Checks everything in this store that `images` consist of: every blob against its digest, every
    /// unpacked layer against what its blob unpacks to, the records, plans and the index.
    ///
    /// - Parameters:
    ///   - images: images of this store.
    ///   - isRepairing: damaged layers are unpacked anew, damaged blobs removed so that the next load or
    ///     pull brings them again, the index is written anew.
    ///   - note: told of each part before it is checked.
    package func verify(
        _ images: [StoredImage], isRepairing: Bool, note: (String) -> Void = { _ in }
    ) throws(Diagnostic) -> [Damage] {
        do throws(SyscallError) { try layout.makeRoot() } catch { throw failure(error) }
        let mask = umask(0)
        defer { umask(mask) }
        let staging = try openStaging()
        var damage: [Damage] = []
        var blobs: [Digest: [String]] = [:]
        var layers: [(layer: ImageRecord.Layer, lower: [String], images: [String])] = []
        for image in images {
            let record = image.record
            for digest in [record.manifest.digest, record.configuration] + record.layers.map(\.blob.digest)
            where blobs[digest]?.contains(image.name) != true {
                blobs[digest, default: []].append(image.name)
            }
            for (index, layer) in record.layers.enumerated() {
                if let known = layers.firstIndex(where: { $0.layer.diffID == layer.diffID }) {
                    if !layers[known].images.contains(image.name) { layers[known].images.append(image.name) }
                    continue
                }
                let lower = record.layers[..<index].reversed().map { layout.layer($0.diffID) }
                layers.append((layer, lower, [image.name]))
            }
        }
        var sound: Set<Digest> = []
        for (digest, names) in blobs.sorted(by: { $0.key.hex < $1.key.hex }) {
            note("blob \(digest)")
            if let reason = blobFault(digest) {
                let isRemoved = isRepairing && unlink(layout.blob(digest)) == 0
                damage.append(
                    Damage(
                        kind: .blob, what: digest.description,
                        reasons: [reason] + (isRemoved ? ["removed; load or pull the image to bring it again"] : []),
                        images: names))
            } else {
                sound.insert(digest)
            }
        }
        for (layer, lower, names) in layers where sound.contains(layer.blob.digest) {
            note("layer \(layer.diffID)")
            let job = LayerCheck(store: self, layer: layer, lower: lower, staging: staging)
            let differences = try job.differences()
            guard !differences.isEmpty else { continue }
            let isRepaired = isRepairing ? try job.replace() : false
            damage.append(
                Damage(
                    kind: .layer, what: layer.diffID.description, reasons: differences, images: names,
                    isRepaired: isRepaired))
        }
        return damage + (try bookkeeping(staging, isRepairing))
    }

    private func blobFault(_ digest: Digest) -> String? {
        do throws(SyscallError) {
            let file = try OwnedDescriptor.open(layout.blob(digest), O_RDONLY)
            do throws(ArchiveFault) {
                let found = try ImageStore.digest(DescriptorStream(file.raw))
                return found == digest ? nil : "its content is \(found)"
            } catch { return error.reason }
        } catch { return error.sentence }
    }

    /// Plans, records and the index, which hold no content of images.
    private func bookkeeping(_ staging: Staging, _ isRepairing: Bool) throws(Diagnostic) -> [Damage] {
        var damage: [Damage] = []
        do throws(SyscallError) {
            let lock = try StoreLock(layout)
            for file in try Files.names(in: layout.plans) where owner(of: layout.plan(fileName: file)) == nil {
                let reason = isRepairing ? try repairPlan(file, staging) : nil
                damage.append(
                    Damage(
                        kind: .plan, what: file, reasons: ["cannot be read"] + [reason].compactMap { $0 }, images: [],
                        isRepaired: isRepairing && reason == nil))
            }
            for name in try Files.names(in: layout.images) {
                guard let digest = Digest(hex: name), (try? readRecord(digest)) == nil else { continue }
                let names = try names(of: digest)
                if isRepairing { try removeUnreadable(digest, staging) }
                damage.append(
                    Damage(
                        kind: .record, what: layout.record(digest),
                        reasons: ["cannot be read"] + (isRepairing ? [Self.bringAgain] : []),
                        images: names.isEmpty ? [digest.description] : names))
            }
            let before = try? Files.read(layout.index)
            let expected = try indexBytes()
            let hasNames = try !Files.names(in: layout.plans).isEmpty
            if before != expected, before != nil || hasNames {
                // A command that died since this one began was between the two; that is no damage.
                let isUnfinished = try !Staging.dead(layout, holding: lock).isEmpty
                if isRepairing || isUnfinished { try writeIndex(staging, holding: lock) }
                if !isUnfinished {
                    damage.append(
                        Damage(
                            kind: .index, what: "index.json", reasons: ["does not list what the store holds"],
                            images: [], isRepaired: isRepairing))
                }
            }
        } catch { throw failure(error) }
        return damage
    }
}

extension ImageStore {
    private static let bringAgain = "removed; load or pull the image to bring it again"

    /// Gives a name its plan back: the image's own, under the name that the index lists.
    ///
    /// - Returns: what was done instead, where the index does not tell whose name it was.
    private func repairPlan(_ file: String, _ staging: Staging) throws(SyscallError) -> String? {
        let path = layout.plan(fileName: file)
        let index = (try? Files.read(layout.index)).flatMap {
            try? JSONDecoder().decode(ImageIndex.self, from: Data($0))
        }
        let listed = (index?.manifests ?? []).compactMap { entry -> (name: String, digest: Digest)? in
            let name = entry.annotations?[Annotation.name] ?? entry.digest.description
            let files = [ImageReference(name), ImageReference(name)?.withoutLocalhost].compactMap { $0?.fileName }
            return (files.isEmpty ? [name] : files).contains(file) ? (name, entry.digest) : nil
        }
        if let found = listed.first, let bytes = try? Files.read(layout.image(found.digest) + "/plan"),
            var plan = try? LaunchPlan(decoding: bytes)
        {
            plan.imageName = found.name
            if let bytes = try? plan.encoded() {
                let staged = staging.path + "/plan"
                try Files.write(bytes, to: staged)
                try Files.rename(staged, path)
                return nil
            }
        }
        unlink(path)
        return Self.bringAgain
    }

    /// An image of which nothing is known any more keeps everything else from being collected.
    private func removeUnreadable(_ digest: Digest, _ staging: Staging) throws(SyscallError) {
        for file in try Files.names(in: layout.plans) {
            let path = layout.plan(fileName: file)
            if owner(of: path)?.digest == digest { unlink(path) }
        }
        try Files.rename(layout.image(digest), staging.path + "/image-" + digest.hex)
    }
}

/// One unpacked layer held against its blob.
private struct LayerCheck {
    let store: ImageStore
    let layer: ImageRecord.Layer
    let lower: [String]
    let staging: Staging
    private let part: String

    init(store: ImageStore, layer: ImageRecord.Layer, lower: [String], staging: Staging) {
        self.store = store
        self.layer = layer
        self.lower = lower
        self.staging = staging
        part = "\(staging.path)/check-\(layer.diffID.hex)"
    }

    /// What is different, the first few; empty when nothing is.
    func differences() throws(Diagnostic) -> [String] {
        do throws(ArchiveFault) { try unpack() } catch {
            if error.errno == ENOSPC || error.errno == EDQUOT {
                throw store.noSpace(needBytes: layer.unpackedBytes, reason: "a layer is unpacked anew to be compared")
            }
            return ["its blob cannot be unpacked: \(error.reason)"]
        }
        do throws(SyscallError) {
            var comparison = TreeComparison()
            try comparison.compare(part, store.layout.layer(layer.diffID))
            if comparison.differences.isEmpty { try removePart() }
            return comparison.differences
        } catch { throw store.failure(error) }
    }

    private func unpack() throws(ArchiveFault) {
        var open: [Int32] = []
        defer { open.forEach { close($0) } }
        do throws(SyscallError) {
            try Files.makeDirectory(part)
            open.append(try OwnedDescriptor.open(store.layout.blob(layer.blob.digest), O_RDONLY).release())
            for path in [part] + lower where Files.exists(path) {
                open.append(try OwnedDescriptor.open(path, O_RDONLY | O_DIRECTORY).release())
            }
        } catch { throw ArchiveFault(error) }
        let start = PeekedStream(DescriptorStream(open[0]))
        let plain = try Compression.detect(try start.peek(Compression.magicBytes)).decompressing(start)
        let below = Array(open.dropFirst(2))
        let extractor = LayerExtractor(into: open[1], isShared: store.layout.isShared) { below }
        try extractor.extract(TarReader(BufferedChunks(plain)))
    }

    private func removePart() throws(SyscallError) {
        let parent = try OwnedDescriptor.open(staging.path, O_RDONLY | O_DIRECTORY)
        try DirectoryTree.remove(Array("check-\(layer.diffID.hex)".utf8), in: parent.raw)
    }

    /// Puts the layer as just unpacked in the place of the damaged one.
    func replace() throws(Diagnostic) -> Bool {
        do throws(SyscallError) {
            try replace(holding: try StoreLock(store.layout))
            return true
        } catch { throw store.failure(error) }
    }

    private func replace(holding lock: borrowing StoreLock) throws(SyscallError) {
        let target = store.layout.layer(layer.diffID)
        if Files.exists(target) { try Files.rename(target, part + "-damaged") }
        try Files.rename(part, target)
    }
}
