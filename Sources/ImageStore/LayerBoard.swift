import Glibc
import ImageFormats
import LinuxSystem

/// What several threads importing the layers of one image know of each other.
///
/// The largest is taken first: begun last, it would end alone, with nothing beside it to keep the other
/// processors busy. One waits only for those below it, so the waiting never ends in a circle; who waits takes
/// those of them that nobody has begun himself, or they might never be.
final class LayerBoard: @unchecked Sendable {
    // Everything below is guarded by `mutex`.
    private let mutex: UnsafeMutablePointer<pthread_mutex_t>
    private let changed: UnsafeMutablePointer<pthread_cond_t>
    private var results: [Result<ImportedLayer, LayerFault>?]
    private var bytesRead: [Int64]
    /// All layers, largest first.
    private let order: [Int]
    private var isTaken: [Bool]
    private var firstFailure: Int?

    /// - Parameter sizes: of the layers' blobs in bytes, lowest first.
    init(sizes: [Int64]) {
        let layers = sizes.count
        order = sizes.indices.sorted { (sizes[$1], $0) < (sizes[$0], $1) }
        isTaken = Array(repeating: false, count: layers)
        mutex = .allocate(capacity: 1)
        changed = .allocate(capacity: 1)
        pthread_mutex_init(mutex, nil)
        pthread_cond_init(changed, nil)
        results = Array(repeating: nil, count: layers)
        bytesRead = Array(repeating: 0, count: layers)
    }

    deinit {
        pthread_cond_destroy(changed)
        pthread_mutex_destroy(mutex)
        changed.deallocate()
        mutex.deallocate()
    }

    private func locked<R>(_ body: () -> R) -> R {
        pthread_mutex_lock(mutex)
        defer { pthread_mutex_unlock(mutex) }
        return body()
    }

    /// The next layer nobody has taken; nil when there is none or one has failed.
    func take() -> Int? {
        locked {
            guard firstFailure == nil, let layer = order.first(where: { !isTaken[$0] }) else { return nil }
            isTaken[layer] = true
            return layer
        }
    }

    /// The lowest layer below `index` nobody has taken; nil when there is none or one has failed.
    private func take(below index: Int) -> Int? {
        locked {
            guard firstFailure == nil, let layer = isTaken[..<index].firstIndex(of: false) else { return nil }
            isTaken[layer] = true
            return layer
        }
    }

    func finish(_ index: Int, _ result: Result<ImportedLayer, LayerFault>) {
        locked {
            results[index] = result
            if case .failure = result, firstFailure == nil { firstFailure = index }
            pthread_cond_broadcast(changed)
        }
    }

    /// Another layer failed: what this one does is for nothing.
    var isFailed: Bool { locked { firstFailure != nil } }

    func note(_ bytes: Int, of index: Int) { locked { bytesRead[index] += Int64(bytes) } }

    /// Returns when all layers below `index` are unpacked, after `bringIn` of those nobody had begun. The lowest
    /// come first: one that waits in turn finds all below it begun, so this goes no deeper than two.
    ///
    /// - Throws: when one of them failed and never will be.
    func waitForLayers(below index: Int, _ bringIn: (Int) -> Void) throws(ArchiveFault) {
        while let layer = take(below: index) { bringIn(layer) }
        let isReady = locked { () -> Bool in
            while firstFailure == nil, results[..<index].contains(where: { $0 == nil }) {
                pthread_cond_wait(changed, mutex)
            }
            return firstFailure == nil
        }
        if !isReady { throw ArchiveFault(.system, "cancelled") }
    }

    /// Waits until all is done or `milliseconds` have passed; the bytes read of each layer so far.
    func wait(milliseconds: Int) -> (isDone: Bool, bytesRead: [Int64]) {
        locked {
            var until = timespec()
            clock_gettime(CLOCK_REALTIME, &until)
            until.tv_nsec += (milliseconds % 1000) * 1_000_000
            until.tv_sec += milliseconds / 1000 + until.tv_nsec / 1_000_000_000
            until.tv_nsec %= 1_000_000_000
            while !isDone {
                if pthread_cond_timedwait(changed, mutex, &until) == ETIMEDOUT { break }
            }
            return (isDone, bytesRead)
        }
    }

    private var isDone: Bool {
        zip(results, isTaken).allSatisfy { result, isTaken in result != nil || firstFailure != nil && !isTaken }
    }

    /// What became of the layers, in order; the fault is that of the layer that failed first.
    func outcome() throws(LayerFailure) -> [ImportedLayer] {
        var imported: [ImportedLayer] = []
        pthread_mutex_lock(mutex)
        defer { pthread_mutex_unlock(mutex) }
        if let failed = firstFailure, case .failure(let fault) = results[failed] {
            throw LayerFailure(index: failed, fault: fault)
        }
        for case .success(let layer) in results { imported.append(layer) }
        return imported
    }
}

/// A layer that was not taken: which of those imported, and why.
struct LayerFailure: Error {
    var index: Int
    var fault: LayerFault
}
