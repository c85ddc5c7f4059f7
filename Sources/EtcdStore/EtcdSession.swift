import CLinux
import CoordinationStore
import Glibc
import LinuxSystem
import Synchronization

/// A job's keys in the site's etcd, kept by a task of its own so that the leader never waits for it.
///
/// The leader says what the keys shall be (`put`) and sees what etcd has (`visible`); in between are
/// a lease that is renewed, members that fail, and a quorum that may be lost for a while. What fails
/// is tried again until `finish`.
package final class EtcdSession: Sendable {
    private struct State: Sendable {
        var desired: [String: String] = [:]
        var pushed: [String: String] = [:]
        var visible: [String: String] = [:]
        var fault: StoreFault?
        var isFinishing = false
        var hasFinished = false
    }
    private let state = Mutex(State())
    private let client: EtcdClient
    private let prefix: String
    private let wakeRead: Int32
    private let wakeWrite: Int32

    /// Keys outlive a leader that dies by at most this.
    package static let leaseSeconds = 60
    private static let renewMilliseconds = 15_000

    /// - Parameter prefix: every key of the job begins so.
    package init(_ settings: EtcdSettings, prefix: String) throws(StoreFault) {
        client = try EtcdClient(settings)
        self.prefix = prefix
        var ends: [Int32] = [-1, -1]
        guard linux_pipe2(&ends, O_CLOEXEC | O_NONBLOCK) == 0 else { throw StoreFault(SyscallError("pipe2").sentence) }
        (wakeRead, wakeWrite) = (ends[0], ends[1])
        Task.detached { [self] in await work() }
    }

    /// Becomes readable when `visible` or `fault` changed; `acknowledge` before looking.
    package var descriptor: Int32 { wakeRead }

    package func acknowledge() {
        var byte: UInt8 = 0
        while read(wakeRead, &byte, 1) == 1 {}
    }

    package func put(_ key: String, _ value: String) { state.withLock { $0.desired[key] = value } }

    /// What etcd showed last, read through its quorum.
    package var visible: [String: String] { state.withLock { $0.visible } }
    package var fault: StoreFault? { state.withLock { $0.fault } }

    /// Stops the work after what was put has been pushed, or after that time. Then the keys go with their lease:
    /// watchers see how the job ended, and nothing of it stays. Of a store that does not answer, they go when the
    /// lease is over.
    ///
    /// - Returns: whether all was pushed.
    package func finish(milliseconds: Int) -> Bool {
        state.withLock { $0.isFinishing = true }
        var left = milliseconds
        while left > 0, !state.withLock({ $0.hasFinished }) {
            usleep(10_000)
            left -= 10
        }
        return isDone
    }

    // MARK: The task

    private func work() async {
        var lease: Int64 = 0
        var sinceRenewal = 0
        var pause = 20
        while true {
            do throws(StoreFault) {
                if lease == 0 {
                    lease = try await client.grant(seconds: Self.leaseSeconds)
                    sinceRenewal = 0
                    state.withLock { $0.pushed = [:] }
                } else if sinceRenewal >= Self.renewMilliseconds {
                    sinceRenewal = 0
                    if !(try await client.renew(lease)) {
                        lease = 0
                        continue
                    }
                }
                let changed = state.withLock { state in
                    state.desired.filter { state.pushed[$0.key] != $0.value }
                }
                for (key, value) in changed {
                    try await client.put(key, value, lease: lease)
                    state.withLock { $0.pushed[key] = value }
                }
                if !changed.isEmpty { try await look() }
                setFault(nil)
                pause = 20
                if isDone { break }
            } catch {
                setFault(error)
                pause = min(pause * 2, 2000)
                if state.withLock({ $0.isFinishing }) { break }
            }
            try? await Task.sleep(for: .milliseconds(pause))
            sinceRenewal += pause
        }
        if lease != 0 { try? await client.revoke(lease) }
        await client.shutdown()
        state.withLock { $0.hasFinished = true }
    }

    private var isDone: Bool { state.withLock { $0.isFinishing && $0.pushed == $0.desired } }

    private func look() async throws(StoreFault) {
        let entries = try await client.list(prefix)
        state.withLock { state in
            state.visible = [:]
            for entry in entries { state.visible[entry.key] = entry.value }
        }
        wake()
    }

    private func setFault(_ fault: StoreFault?) {
        let isNew = state.withLock { state in
            defer { state.fault = fault }
            return state.fault != fault
        }
        if isNew { wake() }
    }

    private func wake() {
        var byte: UInt8 = 1
        _ = write(wakeWrite, &byte, 1)
    }
}
