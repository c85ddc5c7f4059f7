import Glibc
import ImageFormats
import LinuxSystem
import OCIModel

/// A SHA-256 over pieces as they pass, for those who bring content to the store.
package struct ContentHashing {
    private var hash = ContentHash()

    package init() {}
    package mutating func update(_ bytes: UnsafeRawBufferPointer) { hash.update(bytes) }
    package consuming func finish() -> Digest { hash.finish() }

    /// Of the first `length` bytes of an open file; nil when they cannot be read.
    package static func digest(of descriptor: Int32, length: Int64) -> Digest? {
        let chunks = BufferedChunks(FileRange(descriptor, length: length))
        var hash = ContentHash()
        do throws(ArchiveFault) { while let chunk = try chunks.nextChunk() { hash.update(chunk) } } catch { return nil }
        return hash.finish()
    }
}
