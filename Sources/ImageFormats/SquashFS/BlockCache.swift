import Glibc

/// Decompressed blocks of one size, the least recently used replaced, shared by threads.
///
/// A block that several threads want is made once: the others wait for it. A reader holds its
/// block while it copies from it, so there must be more slots than threads.
final class BlockCache: @unchecked Sendable {
    private let slotBytes: Int
    private var slots: [Slot]
    private var index: [Int64: Int] = [:]
    private var clock: UInt64 = 0
    private let mutex: UnsafeMutablePointer<pthread_mutex_t>
    private let changed: UnsafeMutablePointer<pthread_cond_t>

    private struct Slot {
        var key: Int64 = -1
        /// Taken when first used: an image that is small stays small here.
        var memory: UnsafeMutableRawPointer?
        var count = 0
        /// Where the block after this one starts in the file.
        var next: Int64 = 0
        var holders = 0
        var isLoading = false
        var used: UInt64 = 0
    }

    init(slotBytes: Int, slotCount: Int) {
        self.slotBytes = slotBytes
        slots = Array(repeating: Slot(), count: slotCount)
        mutex = .allocate(capacity: 1)
        changed = .allocate(capacity: 1)
        pthread_mutex_init(mutex, nil)
        pthread_cond_init(changed, nil)
    }

    deinit {
        for slot in slots { slot.memory?.deallocate() }
        pthread_cond_destroy(changed)
        pthread_mutex_destroy(mutex)
        changed.deallocate()
        mutex.deallocate()
    }

    /// Lends the block at `key` to `use`, made by `load` when it is not there.
    /// - Parameter load: fills the slot; returns the bytes filled and where the next block starts.
    func withBlock<R>(
        _ key: Int64, load: (UnsafeMutableRawBufferPointer) throws(ArchiveFault) -> (count: Int, next: Int64),
        use: (UnsafeRawBufferPointer, Int64) throws(ArchiveFault) -> R
    ) throws(ArchiveFault) -> R {
        let (slot, isNew) = acquire(key)
        if isNew {
            do throws(ArchiveFault) {
                let memory = UnsafeMutableRawBufferPointer(start: contents(slot).0, count: slotBytes)
                let loaded = try load(memory)
                settle(slot, loaded)
            } catch {
                abandon(slot)
                throw error
            }
        }
        defer { release(slot) }
        let (memory, count, next) = contents(slot)
        return try use(UnsafeRawBufferPointer(start: memory, count: count), next)
    }

    private func contents(_ slot: Int) -> (UnsafeMutableRawPointer?, Int, Int64) {
        pthread_mutex_lock(mutex)
        defer { pthread_mutex_unlock(mutex) }
        return (slots[slot].memory, slots[slot].count, slots[slot].next)
    }

    private func acquire(_ key: Int64) -> (slot: Int, isNew: Bool) {
        pthread_mutex_lock(mutex)
        defer { pthread_mutex_unlock(mutex) }
        while true {
            clock += 1
            if let found = index[key] {
                if slots[found].isLoading {
                    pthread_cond_wait(changed, mutex)
                    continue
                }
                slots[found].holders += 1
                slots[found].used = clock
                return (found, false)
            }
            var victim = -1
            for candidate in slots.indices where slots[candidate].holders == 0 {
                if victim < 0 || slots[candidate].used < slots[victim].used { victim = candidate }
            }
            guard victim >= 0 else {
                pthread_cond_wait(changed, mutex)
                continue
            }
            if slots[victim].key >= 0 { index[slots[victim].key] = nil }
            if slots[victim].memory == nil { slots[victim].memory = .allocate(byteCount: slotBytes, alignment: 64) }
            slots[victim].key = key
            slots[victim].holders = 1
            slots[victim].isLoading = true
            slots[victim].used = clock
            index[key] = victim
            return (victim, true)
        }
    }

    private func settle(_ slot: Int, _ loaded: (count: Int, next: Int64)) {
        pthread_mutex_lock(mutex)
        slots[slot].count = loaded.count
        slots[slot].next = loaded.next
        slots[slot].isLoading = false
        pthread_cond_broadcast(changed)
        pthread_mutex_unlock(mutex)
    }

    private func abandon(_ slot: Int) {
        pthread_mutex_lock(mutex)
        index[slots[slot].key] = nil
        slots[slot].key = -1
        slots[slot].holders = 0
        slots[slot].isLoading = false
        slots[slot].used = 0
        pthread_cond_broadcast(changed)
        pthread_mutex_unlock(mutex)
    }

    private func release(_ slot: Int) {
        pthread_mutex_lock(mutex)
        slots[slot].holders -= 1
        if slots[slot].holders == 0 { pthread_cond_broadcast(changed) }
        pthread_mutex_unlock(mutex)
    }
}
