import Diagnostics
import FoundationEssentials
import Glibc
import ImageFormats
import LaunchPlan
import LinuxSystem
import OCIModel

/// One image on its way into the store: its parts lie in staging until `commit`.
final class StagedLoad {
    private let store: ImageStore
    private let image: ArchivedImage
    private let staging: Staging
    private var layout: StoreLayout { store.layout }

    /// Lowest first; where each lies now.
    private var layers: [(record: ImageRecord.Layer, directory: String)] = []
    private var stagedBlobs: [Digest] = []
    private var stagedLayers: [Digest] = []
    private var skippedDevices = 0
    private var droppedAttributes = 0
    private var manifest: (bytes: [UInt8], descriptor: Descriptor)?
    private var preparation: ImagePreparation?

    init(store: ImageStore, image: ArchivedImage, staging: Staging) {
        self.store = store
        self.image = image
        self.staging = staging
    }

    private func stagedBlob(_ digest: Digest) -> String { "\(staging.path)/blob-\(digest.hex)" }
    private func stagedLayer(_ digest: Digest) -> String { "\(staging.path)/layer-\(digest.hex)" }
    private var stagedImage: String { staging.path + "/image" }

    // MARK: Layers

    func importLayers(
        _ input: Int32, _ request: ImageStore.LoadRequest, _ progress: (LoadEvent) -> Void
    ) throws(Diagnostic) {
        // What already lies in the store need not be read again.
        let known = knownLayers()
        let missing = image.layers.filter { known[Content($0, input)] == nil }
        let need = missing.reduce(0) { $0 + $1.length } * 2
        if let have = store.freeBytes(), have < need { throw store.noSpace(needBytes: need, reason: nil) }
        for (i, layer) in image.layers.enumerated() {
            let content = Content(layer, input)
            let isKnown = known[content] != nil || stagedLayers.contains(layer.diffID)
            progress(.layer(number: i + 1, of: image.layers.count, bytes: layer.length, wasPresent: isKnown))
            if let record = known[content] {
                layers.append((record, layout.layer(layer.diffID)))
            } else if let twin = layers.first(where: { $0.record.diffID == layer.diffID }) {
                layers.append(twin)
            } else {
                try importLayer(layer, number: i + 1, input, request)
            }
        }
        var summary = ExtractionSummary()
        summary.skippedDevices = skippedDevices
        summary.droppedAttributes = droppedAttributes
        progress(.summary(summary))
    }

    /// A layer in one of its forms. The blob counts, too: a manifest names it, so it must be in the store
    /// as the archive has it, even where another archive's form of the same layer is there already.
    private struct Content: Hashable {
        var diffID: Digest
        /// Nil when it is not known before it is read (a compressed layer in a docker-archive).
        var blob: Digest?

        init(diffID: Digest, blob: Digest) {
            self.diffID = diffID
            self.blob = blob
        }

        init(_ layer: ArchivedLayer, _ archive: Int32) {
            diffID = layer.diffID
            blob = layer.blobDigest
            if blob == nil, (try? layer.compression(archive)) == Compression.none { blob = layer.diffID }
        }
    }

    /// Layers of stored images.
    private func knownLayers() -> [Content: ImageRecord.Layer] {
        var known: [Content: ImageRecord.Layer] = [:]
        for name in (try? Files.names(in: layout.images)) ?? [] {
            guard let digest = Digest(hex: name), let record = try? store.readRecord(digest) else { continue }
            for layer in record.layers where Files.exists(layout.layer(layer.diffID)) {
                known[Content(diffID: layer.diffID, blob: layer.blob.digest)] = layer
            }
        }
        return known
    }

    private func importLayer(
        _ layer: ArchivedLayer, number: Int, _ input: Int32, _ request: ImageStore.LoadRequest
    ) throws(Diagnostic) {
        let blobPath = staging.path + "/blob"
        let job = LayerImport(
            archive: input, layer: layer, blobPath: blobPath, directory: stagedLayer(layer.diffID),
            lower: layers.reversed().map(\.directory), limits: request.limits)
        let imported: ImportedLayer
        do throws(LayerFault) { imported = try job.run() } catch {
            let place = "layer \(number) of \(image.layers.count)"
            switch error {
            case .archive(let fault):
                if fault.errno == ENOSPC || fault.errno == EDQUOT {
                    throw store.noSpace(needBytes: layer.length * 2, reason: fault.reason)
                }
                throw store.refused(fault, request.subject, layer: place)
            case .mismatch(let what, let claimed, let found, let because):
                let reasons = [
                    "\(place), '\(layer.name)'", "\(what) mismatch: expected \(claimed), found \(found)",
                    because?.reason,
                ]
                throw Diagnostic(
                    DiagnosticCode("archive-invalid"), request.subject, reasons: reasons.compactMap { $0 },
                    remedies: ["the archive is damaged: write or copy it again"])
            }
        }
        do throws(SyscallError) { try Files.rename(blobPath, stagedBlob(imported.blob.digest)) } catch {
            throw store.failure(error)
        }
        stagedBlobs.append(imported.blob.digest)
        stagedLayers.append(layer.diffID)
        skippedDevices += imported.summary.skippedDevices
        droppedAttributes += imported.summary.droppedAttributes
        let record = ImageRecord.Layer(
            diffID: layer.diffID, blob: imported.blob, unpackedBytes: imported.summary.bytes,
            isRootOpaque: imported.summary.isRootOpaque)
        layers.append((record, stagedLayer(layer.diffID)))
    }

    // MARK: Plan

    /// Layers that show, topmost first: those below a root that is opaque do not.
    private var visible: [(record: ImageRecord.Layer, directory: String)] {
        var result: [(record: ImageRecord.Layer, directory: String)] = []
        for layer in layers.reversed() {
            // overlayfs takes each directory once; the upper of two equal layers decides alone.
            if result.contains(where: { $0.record.diffID == layer.record.diffID }) { continue }
            result.append(layer)
            if layer.record.isRootOpaque { break }
        }
        return result
    }

    func prepare(_ preparer: some ImagePreparer) throws(Diagnostic) {
        do throws(SyscallError) {
            try Files.makeDirectory(stagedImage)
            try Files.makeDirectory(stagedImage + "/prepared")
            try writeBlobs()
        } catch { throw store.failure(error) }
        preparation = try preparer.prepare(
            StagedImage(
                configuration: image.configuration, layerDirectories: visible.map(\.directory),
                preparedDirectory: stagedImage + "/prepared"))
    }

    private func writeBlobs() throws(SyscallError) {
        var manifest = image.manifest
        if manifest == nil {
            let made = ImageManifest(
                config: Descriptor(
                    mediaType: MediaType.configuration, digest: image.configurationDigest,
                    size: Int64(image.configurationBytes.count)),
                layers: layers.map(\.record.blob))
            let bytes = Array(made.canonicalJSON.utf8)
            manifest = (
                bytes,
                Descriptor(mediaType: MediaType.manifest, digest: Digest(sha256: bytes), size: Int64(bytes.count))
            )
        }
        self.manifest = manifest
        for (digest, bytes) in [
            (image.configurationDigest, image.configurationBytes), (manifest!.descriptor.digest, manifest!.bytes),
        ] {
            try Files.write(bytes, to: stagedBlob(digest))
            stagedBlobs.append(digest)
        }
    }

    private func record(_ manifest: Descriptor, _ preparation: ImagePreparation) -> ImageRecord {
        ImageRecord(
            manifest: Descriptor(
                mediaType: manifest.mediaType ?? MediaType.manifest, digest: manifest.digest, size: manifest.size),
            configuration: image.configurationDigest, platform: image.configuration.platform ?? .current,
            created: image.configuration.created, loaded: Date.now.formatted(.iso8601), layers: layers.map(\.record),
            mpi: preparation.mpi, skippedDevices: skippedDevices, droppedAttributes: droppedAttributes)
    }

    private func plan(_ manifest: Digest, _ preparation: ImagePreparation, name: String) throws(Diagnostic) -> [UInt8] {
        var plan = preparation.plan
        plan.layers = [layout.relativePrepared(manifest)] + visible.map { layout.relativeLayer($0.record.diffID) }
        plan.imageName = name
        plan.imageDigest = manifest.description
        do throws(LaunchPlanError) { return try plan.encoded() } catch {
            throw Diagnostic(
                DiagnosticCode("image-unsupported"), name,
                reasons: ["its configuration cannot be a launch plan: \(error)"])
        }
    }

    // MARK: Commit

    /// Moves everything into place; nil when a layer this load relied on has gone from the store meanwhile.
    func commit() throws(Diagnostic) -> [LoadedImage]? {
        guard let manifest, let preparation else { return nil }
        let digest = manifest.descriptor.digest
        let names = image.names.isEmpty ? [digest.description] : image.names.map(\.description)
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
        let record: Data
        do { record = try encoder.encode(self.record(manifest.descriptor, preparation)) } catch {
            throw Diagnostic(
                DiagnosticCode("store-unusable"), layout.root, reasons: ["cannot encode the record: \(error)"])
        }
        var plans: [(name: String, bytes: [UInt8])] = []
        for name in names { plans.append((name, try plan(digest, preparation, name: name))) }
        var present: Set<String> = []
        do throws(SyscallError) {
            try Files.write(Array(record), to: stagedImage + "/record.json")
            try Files.write(plans[0].bytes, to: stagedImage + "/plan")
            let lock = try StoreLock(layout)
            guard try moveContent(digest) else { return nil }
            for (name, bytes) in plans where try store.point(name, at: digest, bytes, staging, holding: lock) {
                present.insert(name)
            }
            try store.writeIndex(staging, holding: lock)
        } catch { throw store.failure(error) }
        var loaded: [LoadedImage] = []
        for name in names {
            guard let image = try store.stored(fileName: ImageStore.fileName(name)) else {
                throw Diagnostic(
                    DiagnosticCode("store-damaged"), name, reasons: ["it cannot be read back after loading"])
            }
            loaded.append(LoadedImage(image: image, wasPresent: stagedLayers.isEmpty && present.contains(name)))
        }
        return loaded
    }

    private func moveContent(_ digest: Digest) throws(SyscallError) -> Bool {
        for layer in layers where !stagedLayers.contains(layer.record.diffID) {
            guard Files.exists(layout.layer(layer.record.diffID)), Files.exists(layout.blob(layer.record.blob.digest))
            else { return false }
        }
        for blob in stagedBlobs { try Files.rename(stagedBlob(blob), layout.blob(blob)) }
        for layer in stagedLayers {
            // The other of two loads won; its layer is the same, verified by the same digest.
            if Files.exists(layout.layer(layer)) { continue }
            try Files.rename(stagedLayer(layer), layout.layer(layer))
        }
        if !Files.exists(layout.image(digest)) { try Files.rename(stagedImage, layout.image(digest)) }
        return true
    }
}
