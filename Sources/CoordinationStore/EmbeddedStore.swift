/// The store in the memory of the job's leader. A pure value without a clock: `advance(to:)` tells it
/// the time, in milliseconds on a clock that only goes forward.
package struct EmbeddedStore: CoordinationStore, Sendable {
    private struct Lease: Sendable {
        var milliseconds: Int
        var endsAt: Int
    }
    private var entries: [String: StoreEntry] = [:]
    private var leases: [Int64: Lease] = [:]
    private var nextLease: Int64 = 1
    private var now: Int
    /// The latest changes, oldest first, for watchers that come late.
    private var history: [StoreChange] = []
    package private(set) var revision: Int64 = 0

    /// More than any job has keys; an older watcher is told to list again.
    package static let historyLimit = 16_384

    package init(now: Int) { self.now = now }

    /// Ends the leases whose time is over.
    package mutating func advance(to now: Int) {
        self.now = max(self.now, now)
        for (lease, term) in leases where term.endsAt <= self.now { revoke(lease) }
    }

    /// When `advance` has something to do next; nil for never.
    package var nextEnd: Int? { leases.values.map(\.endsAt).min() }

    package mutating func grant(seconds: Int) -> Int64 {
        defer { nextLease += 1 }
        leases[nextLease] = Lease(milliseconds: seconds * 1000, endsAt: now + seconds * 1000)
        return nextLease
    }

    package mutating func renew(_ lease: Int64) -> Bool {
        guard let term = leases[lease] else { return false }
        leases[lease]!.endsAt = now + term.milliseconds
        return true
    }

    package mutating func revoke(_ lease: Int64) {
        guard leases.removeValue(forKey: lease) != nil else { return }
        for key in entries.values.filter({ $0.lease == lease }).map(\.key).sorted() { drop(key) }
    }

    @discardableResult
    package mutating func put(_ key: String, _ value: String, lease: Int64) -> Int64 {
        // A lease that has ended holds nothing: the key would never go.
        if lease != 0, leases[lease] == nil { return revision }
        revision += 1
        entries[key] = StoreEntry(key: key, value: value, revision: revision, lease: lease)
        remember(StoreChange(key: key, value: value, revision: revision))
        return revision
    }

    package mutating func compareAndPut(_ key: String, _ value: String, lease: Int64, revision: Int64) -> Bool {
        guard (entries[key]?.revision ?? 0) == revision, lease == 0 || leases[lease] != nil else { return false }
        put(key, value, lease: lease)
        return true
    }

    package func list(_ prefix: String) -> [StoreEntry] {
        entries.values.filter { $0.key.hasPrefix(prefix) }.sorted { $0.key < $1.key }
    }

    package mutating func remove(_ prefix: String) {
        for key in entries.keys.filter({ $0.hasPrefix(prefix) }).sorted() { drop(key) }
    }

    /// Changes after `revision` of keys that begin with `prefix`; nil when that is too long ago.
    package func changes(after revision: Int64, _ prefix: String) -> [StoreChange]? {
        if let first = history.first, first.revision > revision + 1 { return nil }
        return history.filter { $0.revision > revision && $0.key.hasPrefix(prefix) }
    }

    private mutating func drop(_ key: String) {
        entries[key] = nil
        revision += 1
        remember(StoreChange(key: key, value: nil, revision: revision))
    }

    private mutating func remember(_ change: StoreChange) {
        history.append(change)
        if history.count > Self.historyLimit { history.removeFirst(Self.historyLimit / 4) }
    }
}
