/// A small tree of keys the nodes of a job meet at: `/JOB/NODE/READY` and the like.
///
/// Every change has a revision, keys hang on leases and go with them, and a watcher sees every change
/// after the revision it names. Two of them: `EmbeddedStore`, served by the job's leader, and the
/// site's etcd (`EtcdStore`).
package protocol CoordinationStore {
    associatedtype Failure: Error

    /// A lease that ends unless it is renewed within `seconds`.
    mutating func grant(seconds: Int) throws(Failure) -> Int64
    /// - Returns: false when the lease has ended already.
    mutating func renew(_ lease: Int64) throws(Failure) -> Bool
    /// Ends the lease; its keys go.
    mutating func revoke(_ lease: Int64) throws(Failure)
    /// - Parameter lease: 0 for a key that stays.
    /// - Returns: the revision of the change.
    @discardableResult
    mutating func put(_ key: String, _ value: String, lease: Int64) throws(Failure) -> Int64
    /// Puts only when the key's last change is `revision` (0: it does not exist).
    mutating func compareAndPut(_ key: String, _ value: String, lease: Int64, revision: Int64) throws(Failure) -> Bool
    /// The keys that begin with `prefix`, in their order.
    mutating func list(_ prefix: String) throws(Failure) -> [StoreEntry]
    /// Removes the keys that begin with `prefix`.
    mutating func remove(_ prefix: String) throws(Failure)
}

/// A key, its value and when it was last changed.
package struct StoreEntry: Codable, Equatable, Sendable {
    package var key: String
    package var value: String
    /// Of its last change.
    package var revision: Int64
    /// 0 for none.
    package var lease: Int64
    package init(key: String, value: String, revision: Int64, lease: Int64) {
        self.key = key
        self.value = value
        self.revision = revision
        self.lease = lease
    }
}

/// What a watcher sees: a key's new value, or that it went (nil).
package struct StoreChange: Codable, Equatable, Sendable {
    package var key: String
    package var value: String?
    package var revision: Int64
    package init(key: String, value: String?, revision: Int64) {
        self.key = key
        self.value = value
        self.revision = revision
    }
}

/// Names of a job's keys, the same in every store.
package struct JobKeys: Sendable {
    package let job: String
    package init(job: String) { self.job = job }
    /// All of the job's keys begin so.
    package var prefix: String { "/\(job)/" }
    /// `FALSE` until the job ends, then its exit code.
    package var finish: String { prefix + "FINISH" }
    package func address(_ node: String) -> String { "\(prefix)\(node)/IP" }
    /// The public key of the node's agent in this job.
    package func publicKey(_ node: String) -> String { "\(prefix)\(node)/PUBKEY" }
    /// Digest of the image whose container the node makes.
    package func image(_ node: String) -> String { "\(prefix)\(node)/IMAGE" }
    /// `False`, then `True` when the node's container stands.
    package func ready(_ node: String) -> String { "\(prefix)\(node)/READY" }
}
