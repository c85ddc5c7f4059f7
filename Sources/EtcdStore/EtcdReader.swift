import CoordinationStore
import Glibc
import Synchronization

/// One question to etcd from a program without tasks: the caller's thread waits.
package enum EtcdReader {
    /// The keys that begin with `prefix`.
    package static func list(_ settings: EtcdSettings, _ prefix: String) throws(StoreFault) -> [StoreEntry] {
        let client = try EtcdClient(settings)
        let answer = Answer()
        Task.detached {
            do throws(StoreFault) { answer.give(.success(try await client.list(prefix))) } catch {
                answer.give(.failure(error))
            }
            await client.shutdown()
        }
        while true {
            if let result = answer.taken { return try result.get() }
            usleep(1000)
        }
    }

    private final class Answer: Sendable {
        private let result = Mutex<Result<[StoreEntry], StoreFault>?>(nil)
        func give(_ answer: Result<[StoreEntry], StoreFault>) { result.withLock { $0 = answer } }
        var taken: Result<[StoreEntry], StoreFault>? { result.withLock { $0 } }
    }
}
