import Diagnostics
import FoundationEssentials
import Glibc
import ImageFormats
import LaunchPlan
import LinuxSystem
import OCIModel

/// Images on this machine: an OCI image layout (any OCI tool can read it), the layers unpacked, and one
/// ready launch plan per image and name.
///
/// Every change is prepared in `tmp/` and moved into place under a lock, names last. A command killed at
/// any moment leaves the store as it was before or after, and staging that the next command removes.
package struct ImageStore: Sendable {
    package let layout: StoreLayout
    /// Stores of a group or a site, looked in after this one and never written to.
    package let sites: [ImageStore]

    /// - Parameters:
    ///   - root: absolute; made when something is first stored.
    ///   - sites: roots of stores that are only read, in the order they are looked in.
    package init(root: String, sites: [String] = []) {
        layout = StoreLayout(root: root)
        self.sites = sites.map { ImageStore(root: $0) }
    }

    /// All images, by name; one of a site only where this store has none of its name.
    package func images() throws(Diagnostic) -> [StoredImage] {
        var images = try ownImages()
        for site in sites {
            // A site's store that is away hides its own images, not the user's.
            for image in (try? site.ownImages()) ?? [] where !images.contains(where: { $0.name == image.name }) {
                var image = image
                image.plan.layers = image.lowerDirectories
                images.append(image)
            }
        }
        return images
    }

    /// The images of this store alone, by name. Never one that is half there.
    package func ownImages() throws(Diagnostic) -> [StoredImage] {
        let names: [String]
        do throws(SyscallError) { names = try Files.names(in: layout.plans) } catch { throw failure(error) }
        var images: [StoredImage] = []
        for name in names {
            // Another command may have removed it since the names were read. An alias is shown under its true name.
            if let image = try stored(fileName: name), image.planPath.hasSuffix("/" + ImageStore.fileName(image.name)) {
                images.append(image)
            }
        }
        return images
    }

    /// The image called `name`: `x`, `x:tag`, a localhost name without its host, `sha256:<hex>` or at
    /// least 6 digits of a manifest's or configuration's digest; or `PinnedName`, where both must fit. Nil when
    /// there is none here or in a site's store.
    ///
    /// - Throws: `image-ambiguous` when the digits fit several images, `image-name-differs`.
    package func image(named name: String) throws(Diagnostic) -> StoredImage? {
        if let image = try ownImage(named: name) { return image }
        for site in sites {
            guard var image = try site.ownImage(named: name) else { continue }
            // Whoever reads the plan knows one store only, and it is another.
            image.plan.layers = image.lowerDirectories
            return image
        }
        if let pinned = PinnedName(name) {
            let others = try images().filter { pinned.hasDigest(of: $0) }
            if !others.isEmpty { throw pinned.differs(from: others) }
        }
        return nil
    }

    /// As `image(named:)`, in this store alone; nil for a `PinnedName` whose digest it has under other names only.
    package func ownImage(named name: String) throws(Diagnostic) -> StoredImage? {
        if let reference = ImageReference(name) {
            for candidate in [reference, ImageReference("localhost/\(name)")].compactMap({ $0 }) {
                if let image = try stored(fileName: candidate.fileName) { return image }
            }
        }
        let pinned = PinnedName(name)
        guard let digits = pinned?.digits ?? DigestDigits(name) else { return nil }
        let found = try ownImages().filter { digits.fit($0) && pinned?.hasName(of: $0) ?? true }
        // One configuration under several names or manifests is one image to whoever typed its digits.
        guard Set(found.map(\.record.configuration)).count <= 1 else {
            throw Diagnostic(
                DiagnosticCode("image-ambiguous"), name, reasons: ["these digits fit \(found.count) images"],
                remedies: found.prefix(4).map { "\($0.record.manifest.digest.hex.prefix(16))  \($0.name)" })
        }
        return found.first(where: \.hasName) ?? found.first
    }

    /// The image whose plan is `plans/<fileName>`.
    func stored(fileName: String) throws(Diagnostic) -> StoredImage? {
        let path = layout.plan(fileName: fileName)
        guard let bytes = try? Files.readUnnoticed(path, limit: LaunchPlanLimit.totalBytes),
            let plan = try? LaunchPlan(decoding: bytes), let digest = Digest(plan.imageDigest),
            let record = try? readRecord(digest)
        else { return nil }
        return StoredImage(
            name: plan.imageName, record: record, plan: plan, planPath: path,
            lowerDirectories: plan.layers.map { $0.hasPrefix("/") ? $0 : layout.root + "/" + $0 }, layout: layout)
    }

    func readRecord(_ manifest: Digest) throws -> ImageRecord {
        try JSONDecoder().decode(ImageRecord.self, from: Data(try Files.read(layout.record(manifest))))
    }

    /// The configuration of a stored image, as its author wrote it.
    package func configuration(of image: StoredImage) throws(Diagnostic) -> ImageConfiguration {
        do {
            let bytes = try Files.read(image.layout.blob(image.record.configuration))
            return try JSONDecoder().decode(ImageConfiguration.self, from: Data(bytes))
        } catch let error as SyscallError { throw failure(error) } catch {
            throw Diagnostic(
                DiagnosticCode("store-damaged"), image.name, reasons: ["its configuration is not valid JSON"])
        }
    }

    static func fileName(_ name: String) -> String { ImageReference(name)?.fileName ?? name }

    func failure(_ error: SyscallError) -> Diagnostic {
        if error.errno == ENOSPC || error.errno == EDQUOT { return noSpace(needBytes: nil, reason: error.sentence) }
        if error.call.text == "flock", [ENOLCK, ENOSYS, EOPNOTSUPP].contains(error.errno) {
            return Diagnostic(
                DiagnosticCode("store-unusable"), layout.root,
                reasons: [error.sentence, "its file system gives no locks, so two commands could not share it"],
                remedies: [
                    "set TRIREME_STORE to a directory on another file system",
                    "Lustre: mount it with 'flock'; NFS: without 'nolock'",
                ])
        }
        let remedies =
            error.errno == EACCES || error.errno == EROFS
            ? ["set TRIREME_STORE to a directory you can write to"] : []
        return Diagnostic(DiagnosticCode("store-unusable"), layout.root, reasons: [error.sentence], remedies: remedies)
    }

    /// Free bytes where the store lies; nil when the system does not say.
    package func freeBytes() -> Int64? {
        var status = statvfs()
        guard statvfs(layout.root, &status) == 0 else { return nil }
        return Int64(status.f_bavail) * Int64(status.f_frsize)
    }

    func noSpace(needBytes: Int64?, reason: String?) -> Diagnostic {
        var reasons = ["no space left in the store"]
        let have = freeBytes().map(ByteCount.text) ?? "unknown"
        reasons.append((needBytes.map { "need \(ByteCount.text($0)), " } ?? "") + "have \(have)")
        if let reason { reasons.append(reason) }
        return Diagnostic(
            DiagnosticCode("no-space"), layout.root, reasons: reasons,
            remedies: ["trireme image rm NAME", "set TRIREME_STORE to a directory on a larger file system"])
    }
}

/// Bytes for people, in powers of 1000 as docker shows them.
package enum ByteCount {
    package static func text(_ bytes: Int64) -> String {
        var value = Double(bytes)
        for unit in ["B", "kB", "MB", "GB"] {
            if value < 999.5 {
                if unit == "B" { return "\(bytes)B" }
                let digits = value < 9.995 ? 2 : value < 99.95 ? 1 : 0
                var scale = 1.0
                for _ in 0..<digits { scale *= 10 }
                let rounded = (value * scale).rounded() / scale
                return digits == 0 ? "\(Int(rounded))\(unit)" : "\(rounded)\(unit)"
            }
            value /= 1000
        }
        return "\((value * 10).rounded() / 10)TB"
    }
}
