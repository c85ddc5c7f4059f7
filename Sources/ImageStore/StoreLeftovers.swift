import Diagnostics
import Glibc
import LinuxSystem

extension ImageStore {
    /// The directories under `tmp/` whose command has died, by name.
    /// - Parameter removing: they are gone afterwards; else nothing changes.
    package func leftovers(removing: Bool) throws(Diagnostic) -> [String] {
        guard Files.exists(layout.temporary) else { return [] }
        let dead: [String]
        do throws(SyscallError) { dead = try Staging.dead(layout, holding: try StoreLock(layout)) } catch {
            throw failure(error)
        }
        if removing, !dead.isEmpty { withExtendedLifetime(try openStaging()) {} }
        return removing ? dead.filter { !Files.exists("\(layout.temporary)/\($0)") } : dead
    }
}
