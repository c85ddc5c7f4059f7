import Glibc
import LaunchPlan
import LinuxSystem

/// The shared memory of a node's ranks that have a container each.
///
/// MPI libraries copy between the ranks of a node through files in /dev/shm, which containers with an IPC namespace
/// each would not share, and take another way where those namespaces differ (UCX compares them). So the ranks
/// keep the node's namespace, and in the place of its /dev/shm they see a directory there that is the job's alone.
final class RankMemory {
    private let path: String

    /// nil where the containers have the node's shared memory anyway. `plan` then says nothing of it any more.
    init?(for plan: inout LaunchPlan, key: String) throws(AgentFailure) {
        let own = UInt32(bitPattern: CloneFlags.newIPC)
        guard plan.unshare & own != 0 else { return nil }
        path = "/dev/shm/trireme-\(geteuid())-\(key)"
        guard mkdir(path, 0o700) == 0 else { throw AgentFailure(step: "mkdir", subject: path) }
        Guard.keep(directory: path)
        plan.unshare &= ~own
        plan.mounts.append(LaunchPlan.Mount(source: path, destination: "/dev/shm"))
    }

    deinit { Self.remove(path) }

    /// Removes a directory of this user's with all that is in it, wherever links in it lead.
    static func remove(_ path: String) { remove(path, in: AT_FDCWD) }

    private static func remove(_ name: String, in parent: Int32) {
        let directory = openat(parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC)
        if directory >= 0, let list = fdopendir(directory) {
            defer { closedir(list) }
            while let entry = readdir(list) {
                let child = withUnsafePointer(to: &entry.pointee.d_name) {
                    String(cString: UnsafeRawPointer($0).assumingMemoryBound(to: CChar.self))
                }
                if child == "." || child == ".." { continue }
                if unlinkat(directory, child, 0) != 0 { remove(child, in: directory) }
            }
        }
        unlinkat(parent, name, AT_REMOVEDIR)
    }
}
