import Glibc

/// A bounded ring of buffers between one producing thread and several consuming threads, each of
/// which sees every byte. A slot is written again when all consumers have let go of it, so memory
/// stays `slots * bytes` however fast the producer is.
package final class ChunkRing: @unchecked Sendable {
    // Everything below is guarded by `mutex`, except the content of a slot: that belongs to the
    // producer until `produced` passes it and to the consumers until all of their cursors have.
    private let mutex: UnsafeMutablePointer<pthread_mutex_t>
    /// Content came, or its end.
    private let filled: UnsafeMutablePointer<pthread_cond_t>
    /// Room for the producer came, or nobody is left who wants more.
    private let freed: UnsafeMutablePointer<pthread_cond_t>
    private let buffers: [UnsafeMutableRawBufferPointer]
    private var lengths: [Int]
    /// Slots published so far.
    private var produced = 0
    /// Slots each consumer has let go of; `Int.max` for one that left.
    private var released: [Int]
    private var end: End?

    private enum End { case finished, failed(ArchiveFault) }

    package init(slots: Int = 12, bytes: Int = 256 << 10, consumers: Int) {
        mutex = .allocate(capacity: 1)
        filled = .allocate(capacity: 1)
        freed = .allocate(capacity: 1)
        pthread_mutex_init(mutex, nil)
        pthread_cond_init(filled, nil)
        pthread_cond_init(freed, nil)
        buffers = (0..<slots).map { _ in .allocate(byteCount: bytes, alignment: 64) }
        lengths = Array(repeating: 0, count: slots)
        released = Array(repeating: 0, count: consumers)
    }

    deinit {
        buffers.forEach { $0.deallocate() }
        pthread_cond_destroy(filled)
        pthread_cond_destroy(freed)
        pthread_mutex_destroy(mutex)
        filled.deallocate()
        freed.deallocate()
        mutex.deallocate()
    }

    /// Reads `stream` to its end into the ring; its failure reaches every consumer. Returns early
    /// when all consumers have left.
    package func pump(_ stream: any ByteStream) {
        do throws(ArchiveFault) {
            while let slot = acquire() {
                let buffer = buffers[slot]
                // Full slots: hand-overs cost a wake-up each.
                var filled = 0
                while filled < buffer.count {
                    let n = try stream.read(into: UnsafeMutableRawBufferPointer(rebasing: buffer[filled...]))
                    if n == 0 { break }
                    filled += n
                }
                publish(slot, filled)
                if filled < buffer.count { break }
            }
            finish(.finished)
        } catch { finish(.failed(error)) }
    }

    private func acquire() -> Int? {
        pthread_mutex_lock(mutex)
        defer { pthread_mutex_unlock(mutex) }
        while true {
            let slowest = released.min()!
            if slowest == .max { return nil }
            if produced - slowest < buffers.count { return produced % buffers.count }
            pthread_cond_wait(freed, mutex)
        }
    }

    private func publish(_ slot: Int, _ length: Int) {
        guard length > 0 else { return }
        pthread_mutex_lock(mutex)
        lengths[slot] = length
        produced += 1
        pthread_cond_broadcast(filled)
        pthread_mutex_unlock(mutex)
    }

    private func finish(_ how: End) {
        pthread_mutex_lock(mutex)
        end = how
        pthread_cond_broadcast(filled)
        pthread_mutex_unlock(mutex)
    }

    /// Ends the ring with a failure, in place of `pump`.
    package func fail(_ fault: ArchiveFault) { finish(.failed(fault)) }

    /// Piece number `index` for a consumer that has let go of all before it.
    fileprivate func take(_ index: Int, consumer: Int) throws(ArchiveFault) -> UnsafeRawBufferPointer? {
        pthread_mutex_lock(mutex)
        defer { pthread_mutex_unlock(mutex) }
        if released[consumer] == .max { throw ArchiveFault(.system, "cancelled") }
        if released[consumer] != index {
            released[consumer] = index
            // A producer that waited fills half of the ring in one go: a wake-up costs more than a slot does.
            if produced - released.min()! <= buffers.count / 2 { pthread_cond_signal(freed) }
        }
        while true {
            if index < produced {
                let slot = index % buffers.count
                return UnsafeRawBufferPointer(rebasing: buffers[slot][..<lengths[slot]])
            }
            switch end {
            case .finished: return nil
            case .failed(let fault): throw fault
            case nil: pthread_cond_wait(filled, mutex)
            }
        }
    }

    fileprivate func leave(consumer: Int) {
        pthread_mutex_lock(mutex)
        released[consumer] = .max
        pthread_cond_broadcast(filled)
        pthread_cond_signal(freed)
        pthread_mutex_unlock(mutex)
    }

    /// Stops the producer early; what consumers have not seen is lost to them.
    package func cancel() {
        for consumer in released.indices { leave(consumer: consumer) }
    }

    /// The view of consumer number `consumer`; it lives on one thread and leaves when it goes.
    package func reader(_ consumer: Int) -> Reader { Reader(ring: self, consumer: consumer) }

    package final class Reader: ChunkSource, @unchecked Sendable {
        private let ring: ChunkRing
        private let consumer: Int
        private var index = 0

        fileprivate init(ring: ChunkRing, consumer: Int) {
            self.ring = ring
            self.consumer = consumer
        }

        deinit { ring.leave(consumer: consumer) }

        /// Wants no more; the producer does not wait for this consumer again.
        package func leave() { ring.leave(consumer: consumer) }

        package func nextChunk() throws(ArchiveFault) -> UnsafeRawBufferPointer? {
            let chunk = try ring.take(index, consumer: consumer)
            if chunk != nil { index += 1 }
            return chunk
        }

        package func skip(_ count: Int64) throws(ArchiveFault) -> Int64 { 0 }
    }
}

/// A POSIX thread that ends when its body does, and is waited for when its owner goes.
package struct Worker: ~Copyable {
    private let thread: pthread_t

    private final class Body {
        let run: @Sendable () -> Void
        init(_ run: @escaping @Sendable () -> Void) { self.run = run }
    }

    package init(_ run: @escaping @Sendable () -> Void) throws(ArchiveFault) {
        var thread = pthread_t()
        let body = Unmanaged.passRetained(Body(run))
        let result = pthread_create(
            &thread, nil,
            { argument in
                Unmanaged<Body>.fromOpaque(argument!).takeRetainedValue().run()
                return nil
            }, body.toOpaque())
        guard result == 0 else {
            body.release()
            throw ArchiveFault(.system, "pthread_create: \(String(cString: strerror(result)))", errno: result)
        }
        self.thread = thread
    }

    deinit { pthread_join(thread, nil) }

    /// Waits for the end of the body.
    package consuming func join() {}
}
