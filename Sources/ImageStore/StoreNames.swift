import Diagnostics
import FoundationEssentials
import Glibc
import ImageFormats
import LaunchPlan
import LinuxSystem
import OCIModel

extension ImageStore {
    /// Gives image `digest` a name, taking it from whoever had it; true when it was so already.
    func point(
        _ name: String, at digest: Digest, _ plan: [UInt8], _ staging: Staging, holding lock: borrowing StoreLock
    ) throws(SyscallError) -> Bool {
        let path = layout.plan(fileName: ImageStore.fileName(name))
        let before = owner(of: path)
        if before?.digest == digest, before?.name == name { return true }
        if let before, before.digest != digest, before.name == name {
            // An image that loses its last name stays, by its digest, for whoever still runs it.
            if try names(of: before.digest).count <= 1 {
                try renamePlan(before.digest, to: before.digest.description, from: path, staging)
            }
        }
        try replace(path, plan, staging)
        let nameless = layout.plan(fileName: digest.description)
        if name != digest.description, Files.exists(nameless) { unlink(nameless) }
        if let short = ImageReference(name)?.withoutLocalhost {
            // What podman calls localhost/x is found as x by the launcher, too, unless x is another's.
            let alias = layout.plan(fileName: short.fileName)
            if owner(of: alias).map({ $0.name == name }) ?? true { try replace(alias, plan, staging) }
        }
        return false
    }

    /// Whom a plan file speaks of; the name differs from the file's in an alias.
    func owner(of path: String) -> (name: String, digest: Digest)? {
        guard let bytes = try? Files.readUnnoticed(path, limit: LaunchPlanLimit.totalBytes),
            let plan = try? LaunchPlan(decoding: bytes), let digest = Digest(plan.imageDigest)
        else { return nil }
        return (plan.imageName, digest)
    }

    private func replace(_ path: String, _ bytes: [UInt8], _ staging: Staging) throws(SyscallError) {
        let staged = staging.path + "/plan"
        try Files.write(bytes, to: staged)
        try Files.rename(staged, path)
    }

    private func renamePlan(_ digest: Digest, to name: String, from path: String, _ staging: Staging)
        throws(SyscallError)
    {
        guard let bytes = try? Files.read(path), var plan = try? LaunchPlan(decoding: bytes) else { return }
        plan.imageName = name
        guard let renamed = try? plan.encoded() else { return }
        try replace(layout.plan(fileName: ImageStore.fileName(name)), renamed, staging)
    }

    /// The true names of an image, aliases aside.
    func names(of digest: Digest) throws(SyscallError) -> [String] {
        try allNames().filter { $0.digest == digest }.map(\.name)
    }

    private func allNames() throws(SyscallError) -> [(name: String, digest: Digest)] {
        var result: [(name: String, digest: Digest)] = []
        for file in try Files.names(in: layout.plans) {
            guard let owner = owner(of: layout.plan(fileName: file)), ImageStore.fileName(owner.name) == file else {
                continue
            }
            result.append(owner)
        }
        return result
    }

    /// Writes the layout's index anew from the names, which are what counts.
    func writeIndex(_ staging: Staging, holding lock: borrowing StoreLock) throws(SyscallError) {
        let staged = staging.path + "/index.json"
        try Files.write(try indexBytes(), to: staged)
        try Files.rename(staged, layout.index)
    }

    /// The layout's index as the names have it.
    func indexBytes() throws(SyscallError) -> [UInt8] {
        var index = ImageIndex(manifests: [])
        for (name, digest) in try allNames() {
            guard let record = try? readRecord(digest) else { continue }
            var descriptor = record.manifest
            descriptor.platform = record.platform
            if ImageReference(name) != nil { descriptor.annotations = ["org.opencontainers.image.ref.name": name] }
            index.manifests.append(descriptor)
        }
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
        guard let data = try? encoder.encode(index) else {
            throw SyscallError("write", layout.index, errno: EINVAL)
        }
        return Array(data)
    }

    /// What `remove` did.
    package struct Removal: Sendable {
        package var untagged: [String] = []
        package var deleted: [Digest] = []
    }

    /// Takes the name `name` away; the image goes with its last name, and with it every layer and blob
    /// no other image uses. Throws `image-not-found` when there is none; the caller knows near misses.
    package func remove(named name: String) throws(Diagnostic) -> Removal {
        guard let image = try ownImage(named: name) else {
            if let foreign = try self.image(named: name) {
                throw Diagnostic(
                    DiagnosticCode("store-read-only"), name,
                    reasons: ["it lies in \(foreign.layout.root), which is only read"],
                    remedies: ["TRIREME_STORE=\(foreign.layout.root) trireme image rm \(name)"])
            }
            throw Diagnostic(DiagnosticCode("image-not-found"), name, reasons: ["no such image in \(layout.root)"])
        }
        let staging = try openStaging()
        var removal = Removal()
        do throws(SyscallError) {
            let lock = try StoreLock(layout)
            let digest = image.record.manifest.digest
            if image.hasName {
                for path in aliases(of: image.name) where owner(of: path)?.name == image.name { unlink(path) }
                removal.untagged.append(image.name)
            }
            if try names(of: digest).allSatisfy({ $0 == digest.description }) {
                unlink(layout.plan(fileName: digest.description))
                removal.deleted.append(digest)
            }
            try writeIndex(staging, holding: lock)
            try collectGarbage(staging, holding: lock)
        } catch { throw failure(error) }
        return removal
    }

    func aliases(of name: String) -> [String] {
        let reference = ImageReference(name)
        return [reference, reference?.withoutLocalhost].compactMap { $0 }.map { layout.plan(fileName: $0.fileName) }
    }

    /// Whether removing this image's name removes the image.
    package func isLastName(_ image: StoredImage) throws(Diagnostic) -> Bool {
        do throws(SyscallError) { return try names(of: image.record.manifest.digest).count <= 1 } catch {
            throw failure(error)
        }
    }

    /// Moves what no name leads to into staging, which is deleted when the command ends: images, then
    /// the layers and blobs of none. A load in progress keeps its own in its staging until it commits.
    ///
    /// While anything here cannot be read (damage, or a store written by a newer trireme), nothing is known
    /// to be unused, and nothing goes but the name.
    func collectGarbage(_ staging: Staging, holding lock: borrowing StoreLock) throws(SyscallError) {
        let plans = try Files.names(in: layout.plans)
        let named = Set(try allNames().map(\.digest))
        var isReadable = !plans.contains { owner(of: layout.plan(fileName: $0)) == nil }
        var layers: Set<Digest> = []
        var blobs: Set<Digest> = []
        var unnamed: [String] = []
        for name in try Files.names(in: layout.images) {
            guard let digest = Digest(hex: name), let record = try? readRecord(digest) else {
                isReadable = false
                continue
            }
            guard named.contains(digest) else {
                unnamed.append(name)
                continue
            }
            layers.formUnion(record.layers.map(\.diffID))
            blobs.formUnion(record.layers.map(\.blob.digest))
            blobs.formUnion([record.configuration, digest])
        }
        guard isReadable else { return }
        for name in unnamed { try Files.rename(layout.images + "/" + name, staging.path + "/image-" + name) }
        for name in try Files.names(in: layout.layers) where !Digest.names(name, in: layers) {
            try Files.rename(layout.layers + "/" + name, staging.path + "/gone-" + name)
        }
        for name in try Files.names(in: layout.blobs) where !Digest.names(name, in: blobs) {
            unlink(layout.blobs + "/" + name)
        }
    }
}

extension Digest {
    fileprivate static func names(_ hex: String, in digests: Set<Digest>) -> Bool {
        Digest(hex: hex).map(digests.contains) ?? false
    }
}
