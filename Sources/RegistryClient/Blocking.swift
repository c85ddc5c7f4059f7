import Dispatch
import Synchronization

/// Where synchronous commands enter asynchronous code: the caller's thread sleeps until `body` ends.
/// `main` itself stays synchronous (a static program pays for suspending it).
func blocking<T: Sendable>(
    _ body: @escaping @Sendable () async throws(RegistryFault) -> T
) throws(RegistryFault) -> T {
    let answer = Answer<T>()
    Task.detached {
        do throws(RegistryFault) { answer.give(.success(try await body())) } catch { answer.give(.failure(error)) }
    }
    return try answer.wait().get()
}

private final class Answer<T: Sendable>: Sendable {
    private let result = Mutex<Result<T, RegistryFault>?>(nil)
    private let done = DispatchSemaphore(value: 0)

    func give(_ answer: Result<T, RegistryFault>) {
        result.withLock { $0 = answer }
        done.signal()
    }

    func wait() -> Result<T, RegistryFault> {
        done.wait()
        return result.withLock { $0 }!
    }
}
