import Diagnostics
import FoundationEssentials
import Glibc
import LaunchPlan
import LinuxSystem
import OCIModel

extension ImageStore {
    /// The images that containers on this machine run from, as far as this user may see: their prepared
    /// layers are named in the mount tables of the containers' processes (proc(5), mountinfo). A container
    /// of more layers than fit in a mount's options, or of another user, is not seen.
    ///
    /// - Parameter ignored: processes that do not count.
    package static func imagesInUse(ignoring ignored: Set<pid_t> = []) -> Set<Digest> {
        var used: Set<Digest> = []
        var seen: Set<String> = []
        for process in (try? Files.names(in: "/proc")) ?? [] where process.utf8.allSatisfy({ (48...57).contains($0) }) {
            if !ignored.isEmpty, pid_t(process).map(ignored.contains) ?? false { continue }
            var name = [CChar](repeating: 0, count: 64)
            let n = readlink("/proc/\(process)/ns/mnt", &name, 63)
            guard n > 0 else { continue }
            let space = String(decoding: name[..<n].map { UInt8(bitPattern: $0) }, as: UTF8.self)
            guard seen.insert(space).inserted,
                let table = try? Files.read("/proc/\(process)/mountinfo", limit: 64 << 20)
            else { continue }
            let text = String(decoding: table, as: UTF8.self)
            for part in text.split(separator: "images/", omittingEmptySubsequences: false).dropFirst() {
                if let digest = Digest(hex: part.prefix(64)), part.dropFirst(64).hasPrefix("/prepared") {
                    used.insert(digest)
                }
            }
        }
        return used
    }
}

extension ImageStore {
    /// Gives `image` one more name, taking it from whoever had it. The image must be this store's.
    package func tag(_ image: StoredImage, as name: ImageReference) throws(Diagnostic) {
        guard image.layout.root == layout.root else { throw readOnly(image.name, image.layout) }
        let staging = try openStaging()
        do throws(SyscallError) {
            let lock = try StoreLock(layout)
            guard Files.exists(layout.record(image.record.manifest.digest)) else {
                throw SyscallError("stat", layout.record(image.record.manifest.digest), errno: ENOENT)
            }
            var plan = image.plan
            plan.imageName = name.description
            guard let bytes = try? plan.encoded() else { throw SyscallError("write", name.description, errno: EINVAL) }
            _ = try point(name.description, at: image.record.manifest.digest, bytes, staging, holding: lock)
            try writeIndex(staging, holding: lock)
        } catch { throw failure(error) }
    }

    func readOnly(_ name: String, _ foreign: StoreLayout) -> Diagnostic {
        Diagnostic(
            DiagnosticCode("store-read-only"), name, reasons: ["it lies in \(foreign.root), which is only read"],
            remedies: ["TRIREME_STORE=\(foreign.root) trireme image …"])
    }
}
