import AsyncHTTPClient
import Glibc
import ImageFormats
import LinuxSystem
import NIOCore
import NIOHTTP1
import OCIModel
import RegistryWire
import Synchronization

/// A blob on its way from a registry, read by a thread while a task receives it. A broken transfer
/// goes on where it stopped (`Range`), unseen by the reader. The content is not checked here: who
/// reads it hashes it whole.
final class BlobStream: ByteStream {
    private let queue: BlobQueue
    private let task: Task<Void, Never>
    private var current = ByteBuffer()
    /// What an earlier transfer left, read before what arrives now; -1 when there is none or it is read.
    private var kept: Int32 = -1
    private var keptBytesLeft: Int64 = 0

    /// Starts receiving.
    ///
    /// - Parameters:
    ///   - transfer: all of the blob.
    ///   - partial: a file with the first bytes of the blob, which are not asked for again.
    ///   - failed: told why when the transfer is given up; the reader only learns that it was.
    init(
        _ transfer: BlobTransfer, resuming partial: (path: String, bytes: Int64)?,
        failed: @escaping @Sendable (RegistryFault) -> Void
    ) {
        let queue = BlobQueue()
        self.queue = queue
        if let partial, let file = try? OwnedDescriptor.open(partial.path, O_RDONLY) {
            kept = file.release()
            keptBytesLeft = partial.bytes
        }
        var ready = transfer
        ready.start = keptBytesLeft
        let begun = ready
        task = Task {
            do throws(RegistryFault) {
                try await begun.receive { await queue.push($0) }
                queue.finish(.finished)
            } catch {
                failed(error)
                queue.finish(.failed(error))
            }
        }
    }

    /// A reader that goes ends the transfer.
    deinit {
        task.cancel()
        queue.leave()
        if kept >= 0 { close(kept) }
    }

    func read(into buffer: UnsafeMutableRawBufferPointer) throws(ArchiveFault) -> Int {
        if kept >= 0 {
            let wanted = min(buffer.count, Int(keptBytesLeft))
            let n = Glibc.read(kept, buffer.baseAddress, wanted)
            guard n > 0 || wanted == 0 else { throw ArchiveFault(SyscallError("read", "a partial download")) }
            keptBytesLeft -= Int64(n)
            if keptBytesLeft == 0 {
                close(kept)
                kept = -1
            }
            if n > 0 { return n }
        }
        if current.readableBytes == 0 {
            guard let next = try queue.take() else { return 0 }
            current = next
        }
        let n = min(buffer.count, current.readableBytes)
        current.withUnsafeReadableBytes { buffer.copyMemory(from: UnsafeRawBufferPointer(rebasing: $0[..<n])) }
        current.moveReaderIndex(forwardBy: n)
        return n
    }
}

/// A bounded queue from one task to one thread.
private final class BlobQueue: @unchecked Sendable {
    // Everything below is guarded by `mutex`.
    private let mutex: UnsafeMutablePointer<pthread_mutex_t>
    private let changed: UnsafeMutablePointer<pthread_cond_t>
    private var queue: [ByteBuffer] = []
    private var queuedBytes = 0
    private var end: End?
    private var isAbandoned = false
    private var waitingSender: CheckedContinuation<Void, Never>?

    enum End { case finished, failed(RegistryFault) }
    private enum Limit { static let queuedBytes = 2 << 20 }

    init() {
        mutex = .allocate(capacity: 1)
        changed = .allocate(capacity: 1)
        pthread_mutex_init(mutex, nil)
        pthread_cond_init(changed, nil)
    }

    deinit {
        pthread_cond_destroy(changed)
        pthread_mutex_destroy(mutex)
        changed.deallocate()
        mutex.deallocate()
    }

    /// Waits while the queue is full; false when nobody reads any more.
    func push(_ buffer: ByteBuffer) async -> Bool {
        await withCheckedContinuation { (continuation: CheckedContinuation<Void, Never>) in
            pthread_mutex_lock(mutex)
            queue.append(buffer)
            queuedBytes += buffer.readableBytes
            let isFull = queuedBytes >= Limit.queuedBytes && !isAbandoned
            if isFull { waitingSender = continuation }
            pthread_cond_signal(changed)
            pthread_mutex_unlock(mutex)
            if !isFull { continuation.resume() }
        }
        return !isLeft
    }

    private var isLeft: Bool {
        pthread_mutex_lock(mutex)
        defer { pthread_mutex_unlock(mutex) }
        return isAbandoned
    }

    func finish(_ how: End) {
        pthread_mutex_lock(mutex)
        end = how
        pthread_cond_signal(changed)
        pthread_mutex_unlock(mutex)
    }

    /// Waits for the next piece; nil at the end.
    func take() throws(ArchiveFault) -> ByteBuffer? {
        pthread_mutex_lock(mutex)
        while queue.isEmpty, end == nil { pthread_cond_wait(changed, mutex) }
        guard !queue.isEmpty else {
            pthread_mutex_unlock(mutex)
            if case .failed(let fault) = end {
                throw ArchiveFault(.system, fault.reasons.joined(separator: ": "))
            }
            return nil
        }
        let next = queue.removeFirst()
        queuedBytes -= next.readableBytes
        var sender: CheckedContinuation<Void, Never>?
        if queuedBytes < Limit.queuedBytes / 2 { swap(&sender, &waitingSender) }
        pthread_mutex_unlock(mutex)
        sender?.resume()
        return next
    }

    /// Wants no more.
    func leave() {
        pthread_mutex_lock(mutex)
        isAbandoned = true
        let sender = waitingSender
        waitingSender = nil
        pthread_mutex_unlock(mutex)
        sender?.resume()
    }
}

/// One blob's way out of a registry, over as many connections as it takes.
struct BlobTransfer: Sendable {
    /// Where it is, and how many bytes it has.
    let url: String
    let size: Int64
    let registry: Registry
    /// How messages call it.
    let what: String
    /// Bytes that are here already.
    var start: Int64 = 0
    /// Tried in order when this gives up, each from where the last one stopped.
    var others: [BlobTransfer] = []

    init(_ blob: Descriptor, from registry: Registry, what: String) {
        self.init(url: registry.url("blobs/\(blob.digest)"), size: blob.size, from: registry, what: what)
    }

    init(url: String, size: Int64, from registry: Registry, what: String) {
        self.url = url
        self.size = size
        self.registry = registry
        self.what = what
    }

    /// Less than this between two failures is no progress, in bytes.
    private static let progressBytes: Int64 = 64 << 10

    /// Receives all from `start` on; `deliver` takes the pieces in order and returns false to end it.
    func receive(deliver: @escaping @Sendable (ByteBuffer) async -> Bool) async throws(RegistryFault) {
        let reached = Progress()
        reached.add(start)
        var faults: [RegistryFault] = []
        for transfer in [self] + others {
            do throws(RegistryFault) {
                try await transfer.receive(reached, deliver)
                return
            } catch {
                faults.append(error)
                if Task.isCancelled { break }
            }
        }
        guard let last = faults.last, !others.isEmpty else { throw faults[0] }
        var fault = RegistryFault(last.code, [what], remedies: last.remedies)
        let places = [registry.endpoint.authority] + others.map { RegistryFault.printable($0.url) }
        fault.reasons += zip(places, faults).map { place, fault in
            "\(place): "
                + fault.reasons.filter { $0 != what }.map {
                    $0.hasPrefix(what + ": ") ? $0.dropFirst(what.count + 2) : $0[...]
                }
                .joined(separator: ": ")
        }
        throw fault
    }

    private func receive(
        _ reached: Progress, _ deliver: @escaping @Sendable (ByteBuffer) async -> Bool
    ) async throws(RegistryFault) {
        let start = reached.bytes
        if start == size { return }
        var progressAt = start
        var backoff = Backoff(registry.settings)
        while true {
            do throws(RegistryFault) {
                try await receiveOnce(reached, deliver)
                return
            } catch {
                let here = reached.bytes
                if here - progressAt >= BlobTransfer.progressBytes { backoff.forgive() }
                progressAt = here
                var fault = error
                // Which of the layers broke off; refusals say it themselves.
                if fault.code == .registryUnreachable, !fault.reasons.contains(where: { $0.hasPrefix(what) }) {
                    fault.reasons.insert(what, at: 0)
                }
                try await backoff.wait(after: fault)
            }
        }
    }

    private func receiveOnce(
        _ reached: Progress, _ deliver: @escaping @Sendable (ByteBuffer) async -> Bool
    ) async throws(RegistryFault) {
        let start = reached.bytes
        var request = RegistryRequest(url: url)
        if start > 0 { request.headers.add(name: "Range", value: "bytes=\(start)-") }
        let response = try await registry.attempt(request, accepting: [200, 206], what: what)
        var skip: Int64 = 0
        if response.status.code == 206 {
            guard ContentRange.start(response.headers.first(name: "Content-Range")) == start else {
                throw .malformed("\(what): the registry sends another part than it was asked for")
            }
        } else {
            // Ranges are not offered: what was read already passes unread.
            skip = start
        }
        let first = start - skip
        if let length = response.headers.first(name: "Content-Length").flatMap({ Decimal64.parse($0) }),
            length != size - first
        {
            throw RegistryFault(
                .contentMismatch,
                ["\(what): the registry offers \(first.addingSaturated(length)) bytes, the manifest says \(size)"])
        }
        let activity = Activity()
        let body = response.body
        let skipFirst = skip
        do {
            try await withStallLimit(registry.settings.idleSeconds, activity) {
                var skip = skipFirst
                for try await var buffer in body {
                    let passed = min(skip, Int64(buffer.readableBytes))
                    buffer.moveReaderIndex(forwardBy: Int(passed))
                    skip -= passed
                    let n = Int64(buffer.readableBytes)
                    guard reached.bytes + n <= size else {
                        throw RegistryFault(
                            .contentMismatch,
                            ["\(what): more bytes come than the \(size) that the manifest says"])
                    }
                    if n > 0 {
                        activity.pause()
                        guard await deliver(buffer) else { throw CancellationError() }
                        reached.add(n)
                    }
                    activity.beat()
                }
            }
        } catch let fault as RegistryFault { throw fault } catch {
            throw RegistryFault(transport: error, host: registry.endpoint.host)
        }
        guard reached.bytes == size else {
            throw .transient(
                .registryUnreachable, "\(what): the transfer ended after \(reached.bytes) of \(size) bytes")
        }
    }

    private final class Progress: Sendable {
        private let value = Atomic<Int64>(0)
        var bytes: Int64 { value.load(ordering: .relaxed) }
        func add(_ count: Int64) { value.add(count, ordering: .relaxed) }
    }
}

extension Int64 {
    /// The largest number where the sum would be larger.
    fileprivate func addingSaturated(_ other: Int64) -> Int64 {
        let (sum, isBeyond) = addingReportingOverflow(other)
        return isBeyond ? .max : sum
    }
}
