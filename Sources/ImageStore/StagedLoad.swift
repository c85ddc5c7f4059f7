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
    private let image: IncomingImage
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

    /// This attempt's own part of staging: what an earlier image or attempt left must not leak into it.
    private let directory: String

    init(store: ImageStore, image: IncomingImage, staging: Staging) throws(Diagnostic) {
        self.store = store
        self.image = image
        self.staging = staging
        do throws(SyscallError) { directory = try staging.makePart() } catch { throw store.failure(error) }
    }

    private func stagedBlob(_ digest: Digest) -> String { "\(directory)/blob-\(digest.hex)" }
    private func stagedLayer(_ digest: Digest) -> String { "\(directory)/layer-\(digest.hex)" }
    private var stagedImage: String { directory + "/image" }

    // MARK: Layers

    /// Brings in the layers the store does not have, several at once.
    func importLayers(
        _ request: ImageStore.LoadRequest, _ progress: (LoadEvent) -> Void
    ) throws(Diagnostic) {
        let (jobs, places) = assign(knownLayers())
        // Twice: the blob, and what is in it.
        // Sizes are claims: none may be larger than can be reckoned with.
        let claimed = jobs.reduce(Int64(0)) { min($0, .max >> 2) + min(image.layers[$1.index].length, .max >> 2) }
        let need = min(claimed, .max >> 2) * 2
        if let have = store.freeBytes(), have < need { throw store.noSpace(needBytes: need, reason: nil) }
        for (i, layer) in image.layers.enumerated() {
            progress(
                .layer(
                    number: i + 1, of: image.layers.count, bytes: layer.length,
                    wasPresent: !jobs.contains { $0.index == i }))
        }
        let imported = try run(jobs, request, progress)
        var summary = ExtractionSummary()
        for layer in imported {
            stagedBlobs.append(layer.blob.digest)
            stagedLayers.append(layer.diffID)
            summary.skippedDevices += layer.summary.skippedDevices
            summary.droppedAttributes += layer.summary.droppedAttributes
            summary.duplicates += layer.summary.duplicates
        }
        for place in places {
            switch place {
            case .stored(let record): layers.append((record, layout.layer(record.diffID)))
            case .staged(let job):
                let layer = imported[job]
                let record = ImageRecord.Layer(
                    diffID: layer.diffID, blob: layer.blob, unpackedBytes: layer.summary.bytes,
                    isRootOpaque: layer.summary.isRootOpaque)
                layers.append((record, stagedLayer(layer.diffID)))
            }
        }
        skippedDevices = summary.skippedDevices
        droppedAttributes = summary.droppedAttributes
        progress(.summary(summary))
    }

    /// A layer to import: which, and the directories below it, topmost first.
    private struct Job {
        var index: Int
        var lower: [String]
    }
    private enum Place { case stored(ImageRecord.Layer), staged(Int) }

    private func assign(_ known: [Content: ImageRecord.Layer]) -> (jobs: [Job], places: [Place]) {
        var jobs: [Job] = []
        var places: [Place] = []
        var lower: [String] = []
        for (i, layer) in image.layers.enumerated() {
            if let record = known[Content(layer)] {
                places.append(.stored(record))
                lower.insert(layout.layer(layer.diffID), at: 0)
            } else if let twin = jobs.firstIndex(where: { image.layers[$0.index].diffID == layer.diffID }) {
                places.append(.staged(twin))
                lower.insert(stagedLayer(layer.diffID), at: 0)
            } else {
                places.append(.staged(jobs.count))
                jobs.append(Job(index: i, lower: lower))
                lower.insert(stagedLayer(layer.diffID), at: 0)
            }
        }
        return (jobs, places)
    }

    private func run(
        _ jobs: [Job], _ request: ImageStore.LoadRequest, _ progress: (LoadEvent) -> Void
    ) throws(Diagnostic) -> [ImportedLayer] {
        guard !jobs.isEmpty else { return [] }
        let board = LayerBoard(sizes: jobs.map { image.layers[$0.index].length })
        let isShared = store.layout.isShared
        let crew = LayerCrew(
            board: board, budget: ExtractionBudget(request.limits),
            layers: jobs.enumerated().map { number, job in
                let layer = image.layers[job.index]
                return LayerCrew.Job(
                    layer: layer, blobPath: blobPath(job, number), directory: stagedLayer(layer.diffID),
                    lower: job.lower, isShared: isShared)
            })
        let workers: [LayerCrew.Member]
        do throws(ArchiveFault) { workers = try crew.start() } catch { throw store.refused(error, request.subject) }
        while true {
            let state = board.wait(milliseconds: 250)
            progress(
                .bytes(
                    zip(jobs, state.bytesRead).map {
                        (number: $0.index + 1, read: $1, of: image.layers[$0.index].length)
                    }))
            if state.isDone { break }
        }
        workers.forEach { $0.join() }
        return try collect(jobs, board, request)
    }

    /// Where a layer's blob is written while it is read.
    private func blobPath(_ job: Job, _ number: Int) -> String {
        let layer = image.layers[job.index]
        if layer.keepsPartial, let digest = layer.blobDigest { return Staging.arriving(digest, in: directory) }
        return "\(directory)/blob-\(number)"
    }

    private func collect(
        _ jobs: [Job], _ board: LayerBoard, _ request: ImageStore.LoadRequest
    ) throws(Diagnostic) -> [ImportedLayer] {
        let imported: [ImportedLayer]
        do throws(LayerFailure) { imported = try board.outcome() } catch {
            let number = jobs[error.index].index
            throw store.refusal(
                image.layers[number], number: number + 1, of: image.layers.count, error.fault, request.subject)
        }
        do throws(SyscallError) {
            for (number, layer) in imported.enumerated() {
                try Files.rename(blobPath(jobs[number], number), stagedBlob(layer.blob.digest))
            }
        } catch { throw store.failure(error) }
        return imported
    }

    /// A layer in one of its forms. The blob counts, too: a manifest names it, so it must be in the store
    /// as the archive has it, even where another archive's form of the same layer is there already.
    private struct Content: Hashable {
        var diffID: Digest
        /// Nil when it is not known before it is read (a compressed layer in a docker-archive).
        var blob: Digest?
        /// In the place of `blob`: no manifest names such a layer, so any form of it would do, but the same
        /// archive shall give the same manifest whatever else is in the store.
        var size: Int64?

        init(diffID: Digest, blob: Digest) {
            self.diffID = diffID
            self.blob = blob
        }

        init(diffID: Digest, size: Int64) {
            self.diffID = diffID
            self.size = size
        }

        init(_ layer: IncomingLayer) {
            diffID = layer.diffID
            blob = layer.isPlain ? layer.diffID : layer.blobDigest
            if blob == nil { size = layer.length }
        }
    }

    /// Layers of stored images.
    private func knownLayers() -> [Content: ImageRecord.Layer] {
        var known: [Content: ImageRecord.Layer] = [:]
        for name in (try? Files.names(in: layout.images)) ?? [] {
            guard let digest = Digest(hex: name), let record = try? store.readRecord(digest) else { continue }
            // A blob that is gone or cut is brought again.
            for layer in record.layers
            where Files.exists(layout.layer(layer.diffID))
                && Files.size(layout.blob(layer.blob.digest)) == layer.blob.size
            {
                known[Content(diffID: layer.diffID, blob: layer.blob.digest)] = layer
                known[Content(diffID: layer.diffID, size: layer.blob.size)] = layer
            }
        }
        return known
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
                preparedDirectory: stagedImage + "/prepared", isShared: store.layout.isShared))
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
            if !stagedLayers.isEmpty { try StoreSync.flush(staging.path) }
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
