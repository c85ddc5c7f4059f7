import CLinux
import Glibc

/// A process that cannot be confused with a later one of the same number:
/// its pid, when it started (clock ticks since boot, proc_pid_stat(5) field 22)
/// and which boot that was.
package struct ProcessIdentity: Equatable, Sendable {
    package var pid: Int32
    package var startTicks: UInt64
    package var bootID: String

    package init(pid: Int32, startTicks: UInt64, bootID: String) {
        self.pid = pid
        self.startTicks = startTicks
        self.bootID = bootID
    }

    /// The identity of a living process, as `/proc` here shows it.
    package init(of pid: Int32) throws(SyscallError) {
        guard let ticks = try Self.startTicks(of: pid) else {
            throw SyscallError("open", "/proc/\(pid)/stat", errno: ESRCH)
        }
        self.init(pid: pid, startTicks: ticks, bootID: try Self.currentBootID())
    }

    /// Whether this very process still exists and is not a zombie.
    package var isAlive: Bool {
        guard let boot = try? Self.currentBootID(), boot == bootID else { return false }
        return (try? Self.startTicks(of: pid)) == startTicks
    }

    /// random(4) `/proc/sys/kernel/random/boot_id`
    package static func currentBootID() throws(SyscallError) -> String {
        let bytes = try OwnedDescriptor.open("/proc/sys/kernel/random/boot_id", O_RDONLY).readAll(limit: 4096)
        return String(decoding: bytes.filter { $0 > 0x20 }, as: UTF8.self)
    }

    /// nil when there is no such process or only its zombie.
    private static func startTicks(of pid: Int32) throws(SyscallError) -> UInt64? {
        let bytes: [UInt8]
        do { bytes = try OwnedDescriptor.open("/proc/\(pid)/stat", O_RDONLY).readAll(limit: 65536) } catch {
            if error.errno == ENOENT || error.errno == ESRCH { return nil }
            throw error
        }
        // The name (field 2) may hold blanks and brackets: count from the last bracket.
        guard let end = bytes.lastIndex(of: UInt8(ascii: ")")) else { return nil }
        let fields = bytes[(end + 1)...].split(separator: UInt8(ascii: " "))
        guard fields.count > 19, fields[0].first != UInt8(ascii: "Z"), fields[0].first != UInt8(ascii: "X") else {
            return nil
        }
        return UInt64(String(decoding: fields[19], as: UTF8.self))
    }

    /// A descriptor of this process, or nil when it is gone. pidfd_open(2)
    package func openDescriptor() throws(SyscallError) -> OwnedDescriptor? {
        let raw = linux_pidfd_open(pid, 0)
        if raw < 0 {
            if errno == ESRCH { return nil }
            throw SyscallError("pidfd_open", "\(pid)")
        }
        let descriptor = OwnedDescriptor(owning: raw)
        // The number may have been reused between the record and the open: compare after opening.
        return isAlive ? .some(descriptor) : nil
    }
}
