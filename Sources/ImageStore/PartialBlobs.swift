import Glibc
import LinuxSystem
import OCIModel

/// What arrived of a download that broke off or was killed, kept under its digest so that the next one goes on
/// from there. Nothing of it is believed: whoever uses it hashes the whole.
extension ImageStore {
    private enum Limit {
        /// Less is quicker asked for again than looked at.
        static let bytes: Int64 = 64 << 10
    }

    /// The bytes kept of blob `digest`; nil when there are none worth it.
    package func partial(of digest: Digest, upTo length: Int64) -> (path: String, bytes: Int64)? {
        let path = layout.partial(digest)
        guard let bytes = Files.size(path), bytes >= Limit.bytes, bytes <= length else { return nil }
        return (path, bytes)
    }

    package func discardPartials(_ digests: [Digest]) {
        for digest in digests { unlink(layout.partial(digest)) }
    }

    /// Removes what nobody came back for.
    ///
    /// - Parameter seconds: younger ones stay.
    /// - Returns: the bytes removed.
    @discardableResult
    package func prunePartials(olderThan seconds: Int) -> Int64 {
        var removed: Int64 = 0
        for name in (try? Files.names(in: layout.partials)) ?? [] {
            let path = layout.partials + "/" + name
            var status = stat()
            guard lstat(path, &status) == 0, time(nil) - status.st_mtim.tv_sec >= seconds, unlink(path) == 0 else {
                continue
            }
            removed += Int64(status.st_size)
        }
        return removed
    }
}

extension Staging {
    private static let prefix = "arriving-"

    /// Where a blob that can be continued is written to, below a part of staging.
    static func arriving(_ digest: Digest, in part: String) -> String { "\(part)/\(prefix)\(digest.hex)" }

    /// Keeps the blobs that were still arriving in a staging directory. Of two of one digest the longer counts.
    static func keepPartials(of directory: String, in layout: StoreLayout) {
        for part in (try? Files.names(in: directory)) ?? [] {
            for name in (try? Files.names(in: directory + "/" + part)) ?? [] where name.hasPrefix(prefix) {
                guard let digest = Digest(hex: name.dropFirst(prefix.count)) else { continue }
                let path = "\(directory)/\(part)/\(name)"
                let kept = layout.partial(digest)
                guard let bytes = Files.size(path), bytes > Files.size(kept) ?? 0 else { continue }
                try? Files.makeDirectory(layout.partials)
                try? Files.rename(path, kept)
            }
        }
    }
}
