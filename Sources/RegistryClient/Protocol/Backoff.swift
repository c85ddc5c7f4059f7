/// Tries again what failed for the moment: each wait twice the last, with jitter so that the many
/// processes of a job do not come back together; a registry's `Retry-After` is obeyed.
struct Backoff: Sendable {
    private let attempts: Int
    private let longestWait: Double
    private var failures = 0

    private enum Limit {
        static let firstSeconds = 0.25
        static let steadySeconds = 20.0
    }

    init(_ settings: RegistrySettings) {
        attempts = settings.attempts
        longestWait = settings.longestWait
    }

    /// Progress was made: the next failure is a first one again.
    mutating func forgive() { failures = 0 }

    /// Waits before the next attempt.
    ///
    /// - Throws: `fault` itself when it is not transient, or when there is no next attempt.
    mutating func wait(after fault: RegistryFault) async throws(RegistryFault) {
        failures += 1
        guard fault.isTransient else { throw fault }
        var final = fault
        final.isTransient = false
        guard failures < attempts, !Task.isCancelled else {
            final.reasons.append("given up after \(failures) attempts")
            throw final
        }
        var seconds = min(Limit.firstSeconds * Double(1 << min(failures - 1, 20)), Limit.steadySeconds)
        seconds *= Double.random(in: 0.5...1)
        if let asked = fault.retryAfter {
            guard asked <= longestWait else {
                final.reasons.append("it asks to come back in \(Int(min(asked, 1e15))) s")
                throw final
            }
            seconds = max(seconds, asked)
        }
        do { try await Task.sleep(nanoseconds: UInt64(seconds * 1e9)) } catch { throw final }
    }

    /// Runs `body` until it succeeds or there is no point.
    func run<T: Sendable>(_ body: @Sendable () async throws(RegistryFault) -> T) async throws(RegistryFault) -> T {
        var copy = self
        while true {
            do throws(RegistryFault) { return try await body() } catch { try await copy.wait(after: error) }
        }
    }
}
