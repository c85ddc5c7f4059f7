import Diagnostics
import Glibc
import LinuxSystem

extension ImageStore {
    /// The directories under `tmp/` whose command has died, by name.
    /// - Parameter removing: they are gone afterwards; else nothing changes.
    package func leftovers(removing: Bool) throws(Diagnostic) -> [String] {
        guard Files.exists(layout.temporary) else { return [] }
        do throws(SyscallError) {
            let lock = try StoreLock(layout)
            if removing {
                let before = try Files.names(in: layout.temporary)
                try Staging.sweep(layout, holding: lock)
                let after = Set(try Files.names(in: layout.temporary))
                return before.filter { !after.contains($0) }
            }
            return try Files.names(in: layout.temporary).filter { name in
                guard let file = try? OwnedDescriptor.open("\(layout.temporary)/\(name)/lock", O_RDWR | O_NOFOLLOW)
                else { return true }
                return flock(file.raw, LOCK_EX | LOCK_NB) == 0
            }
        } catch { throw failure(error) }
    }
}
