import LinuxSystem
import Synchronization

/// When the other side was last heard of.
final class Activity: Sendable {
    /// Nanoseconds of the monotonic clock; 0 while nothing is waited for.
    private let waitingSince = Atomic<Int64>(MonotonicTime.nanoseconds())

    func beat() { waitingSince.store(MonotonicTime.nanoseconds(), ordering: .relaxed) }
    /// We are busy ourselves; silence is not the other side's.
    func pause() { waitingSince.store(0, ordering: .relaxed) }

    var silentSeconds: Double {
        let since = waitingSince.load(ordering: .relaxed)
        return since == 0 ? 0 : Double(MonotonicTime.nanoseconds() - since) / 1e9
    }
}

/// Runs `body`, and ends it when `activity` has been silent for `seconds`. The client library's own
/// read timeout would also fire while we keep the other side waiting.
func withStallLimit<T: Sendable>(
    _ seconds: Double, _ activity: Activity, _ body: @escaping @Sendable () async throws -> T
) async throws -> T {
    try await withThrowingTaskGroup(of: T?.self) { group in
        group.addTask { try await body() }
        group.addTask {
            while !Task.isCancelled {
                try await Task.sleep(nanoseconds: UInt64(min(seconds / 8, 1) * 1e9))
                if activity.silentSeconds > seconds {
                    throw RegistryFault.transient(
                        .registryUnreachable, "no answer for \(Int(seconds.rounded(.up))) s")
                }
            }
            return nil
        }
        defer { group.cancelAll() }
        while let result = try await group.next() { if let result { return result } }
        throw CancellationError()
    }
}
