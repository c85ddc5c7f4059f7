import Diagnostics
import FoundationEssentials
import Glibc
import ImageFormats
import LinuxSystem
import OCIModel

/// What an image takes, and who else uses it.
package struct ImageUse: Sendable {
    package var image: StoredImage
    /// All names, the image's digest when it has none.
    package var names: [String]
    /// Bytes of its blobs and unpacked layers, as recorded.
    package var bytes: Int64
    /// Of these, what other images use, too.
    package var sharedBytes: Int64
    /// Never pruned.
    package var isPinned: Bool
    package var isInUse: Bool
    /// Seconds since 1970: when it was loaded or last read by a launch, whichever is later. File systems
    /// note reads once a day at best (relatime), with `noatime` never.
    package var lastUsed: Int64
    package var uniqueBytes: Int64 { bytes - sharedBytes }
}

extension ImageStore {
    /// Every image of this store and what it takes; the most recently used first.
    ///
    /// - Parameter ignored: processes whose images are not in use for that.
    package func usage(ignoring ignored: Set<pid_t> = []) throws(Diagnostic) -> [ImageUse] {
        let inUse = ImageStore.imagesInUse(ignoring: ignored)
        var uses: [ImageUse] = []
        var users: [Digest: Int] = [:]
        for image in try ownImages() {
            let digest = image.record.manifest.digest
            let used = lastUse(image)
            if let known = uses.firstIndex(where: { $0.image.record.manifest.digest == digest }) {
                uses[known].names.append(image.name)
                uses[known].lastUsed = max(uses[known].lastUsed, used)
                continue
            }
            uses.append(
                ImageUse(
                    image: image, names: [image.name], bytes: 0, sharedBytes: 0,
                    isPinned: Files.exists(layout.pin(digest)), isInUse: inUse.contains(digest), lastUsed: used))
            for part in Set(parts(image.record).map(\.digest)) { users[part, default: 0] += 1 }
        }
        for index in uses.indices {
            var seen: Set<Digest> = []
            for part in parts(uses[index].image.record) where seen.insert(part.digest).inserted {
                uses[index].bytes += part.bytes
                if users[part.digest, default: 0] > 1 { uses[index].sharedBytes += part.bytes }
            }
        }
        return uses.sorted { ($1.lastUsed, $0.image.name) < ($0.lastUsed, $1.image.name) }
    }

    /// Bytes of the whole store, what is shared counted once; as recorded.
    package func totalBytes(_ uses: [ImageUse]) -> Int64 {
        var seen: Set<Digest> = []
        var total: Int64 = 0
        for use in uses {
            for part in parts(use.image.record) where seen.insert(part.digest).inserted { total += part.bytes }
        }
        return total
    }

    /// The blobs of an image; a layer's unpacked form counts with its blob.
    private func parts(_ record: ImageRecord) -> [(digest: Digest, bytes: Int64)] {
        [(record.manifest.digest, record.manifest.size)]
            + record.layers.map { ($0.blob.digest, $0.blob.size + $0.unpackedBytes) }
    }

    private func lastUse(_ image: StoredImage) -> Int64 {
        var status = stat()
        var last: Int64 = 0
        // A launch reads the plan under the name that was typed, or by digest.
        let paths = aliases(of: image.name) + [image.planPath, layout.image(image.record.manifest.digest) + "/plan"]
        for path in paths where stat(path, &status) == 0 {
            last = max(last, Int64(max(status.st_atim.tv_sec, status.st_mtim.tv_sec)))
        }
        if let loaded = try? Date.ISO8601FormatStyle().parse(image.record.loaded) {
            last = max(last, Int64(loaded.timeIntervalSince1970))
        }
        return last
    }

    /// Notes a use that the launcher, which reads plans itself, does not see: jobs, and what `trireme-cli` plans.
    package func noteUse(_ image: StoredImage) {
        if image.layout.root == layout.root, !image.planPath.isEmpty { Files.touchAccess(image.planPath) }
    }

    /// Keeps an image from being pruned, or no longer.
    package func setPin(_ image: StoredImage, _ isPinned: Bool) throws(Diagnostic) {
        guard image.layout.root == layout.root else { throw readOnly(image.name, image.layout) }
        let path = layout.pin(image.record.manifest.digest)
        do throws(SyscallError) {
            if isPinned { return try Files.write([], to: path) }
            if unlink(path) != 0, errno != ENOENT { throw SyscallError("unlink", path) }
        } catch { throw failure(error) }
    }

    /// Removes whole images with all their names, then what no image uses.
    package func remove(_ uses: [ImageUse]) throws(Diagnostic) {
        let staging = try openStaging()
        do throws(SyscallError) {
            let lock = try StoreLock(layout)
            for use in uses {
                for name in try names(of: use.image.record.manifest.digest) {
                    for path in aliases(of: name) where owner(of: path)?.name == name { unlink(path) }
                }
                unlink(layout.plan(fileName: use.image.record.manifest.digest.description))
            }
            try writeIndex(staging, holding: lock)
            try collectGarbage(staging, holding: lock)
        } catch { throw failure(error) }
    }
}
