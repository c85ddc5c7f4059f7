import CoordinationStore
import Testing

@Suite struct EmbeddedStoreTests {
    @Test func keysGoWithTheirLease() {
        var store = EmbeddedStore(now: 0)
        let lease = store.grant(seconds: 20)
        store.put("/1/n1/READY", "True", lease: lease)
        store.put("/1/FINISH", "FALSE", lease: 0)
        store.advance(to: 19_000)
        let isRenewed = store.renew(lease)
        #expect(isRenewed)
        store.advance(to: 38_000)
        #expect(store.list("/1/").map(\.key) == ["/1/FINISH", "/1/n1/READY"])
        store.advance(to: 39_000)
        #expect(store.list("/1/").map(\.key) == ["/1/FINISH"])
        let isRenewedLate = store.renew(lease)
        #expect(!isRenewedLate)
        // An ended lease holds nothing.
        store.put("/1/n1/IP", "x", lease: lease)
        #expect(store.list("/1/n1/").isEmpty)
    }

    @Test func watchersSeeEveryChangeOnce() throws {
        var store = EmbeddedStore(now: 0)
        store.put("/1/a", "1", lease: 0)
        let seen = store.revision
        store.put("/1/a", "2", lease: 0)
        store.put("/2/b", "x", lease: 0)
        store.remove("/1/")
        let changes = try #require(store.changes(after: seen, "/1/"))
        #expect(changes.map(\.value) == ["2", nil] && changes.map(\.key) == ["/1/a", "/1/a"])
        for _ in 0...EmbeddedStore.historyLimit { store.put("/3/c", "", lease: 0) }
        #expect(store.changes(after: seen, "/1/") == nil)
    }

    @Test func compareAndPutNeedsTheRevision() {
        var store = EmbeddedStore(now: 0)
        let first = store.compareAndPut("k", "1", lease: 0, revision: 0)
        let stale = store.compareAndPut("k", "2", lease: 0, revision: 0)
        let second = store.compareAndPut("k", "2", lease: 0, revision: store.list("k")[0].revision)
        #expect(first && !stale && second)
        #expect(store.list("k").map(\.value) == ["2"])
    }
}
