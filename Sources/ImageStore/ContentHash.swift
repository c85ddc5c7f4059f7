import Crypto
import OCIModel

/// A SHA-256 in progress. The one place that sees swift-crypto, whose `Digest` is another.
struct ContentHash {
    private var hash = SHA256()

    mutating func update(_ bytes: UnsafeRawBufferPointer) { hash.update(bufferPointer: bytes) }
    consuming func finish() -> OCIModel.Digest { OCIModel.Digest(bytes: hash.finalize()) }
}

extension OCIModel.Digest {
    /// Of `bytes` in memory.
    package init(sha256 bytes: [UInt8]) { self.init(bytes: SHA256.hash(data: bytes)) }
}
