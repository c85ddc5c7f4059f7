import CLinux
import Glibc

// The launch path works on C strings: `String` alone costs a tenth of a launch
// (its first use touches cold pages of the standard library). Memory taken here
// is never given back; the process is about to become another program.

/// A NUL-terminated byte string that lives as long as the process.
package typealias CString = UnsafePointer<CChar>
/// A NULL-terminated vector of C strings, as execve(2) takes.
package typealias CStringVector = UnsafeMutablePointer<UnsafeMutablePointer<CChar>?>

/// The bytes of a literal, which the compiler ends with a NUL.
@inline(__always)
func c(_ text: StaticString) -> CString {
    UnsafeRawPointer(text.utf8Start).assumingMemoryBound(to: CChar.self)
}

@inline(__always)
func isEqual(_ a: CString, _ b: CString) -> Bool { strcmp(a, b) == 0 }

@inline(__always)
func isEqual(_ a: CString, _ b: StaticString) -> Bool { strcmp(a, c(b)) == 0 }

func hasPrefix(_ text: CString, _ prefix: StaticString) -> Bool {
    strncmp(text, c(prefix), prefix.utf8CodeUnitCount) == 0
}

/// Whether `path` is `directory` or lies below it. Both are clean absolute paths.
func isInside(_ path: CString, _ directory: CString) -> Bool {
    let length = strlen(directory)
    if length == 1 { return true }
    guard strncmp(path, directory, length) == 0 else { return false }
    return path[length] == 0 || path[length] == slash
}

let slash = CChar(0x2F)
let colon = CChar(0x3A)
let equals = CChar(0x3D)

/// A growing byte string; grows by doubling, ends with a NUL when read.
struct ByteBuffer {
    private(set) var bytes: UnsafeMutablePointer<CChar>
    private(set) var count = 0
    private var capacity: Int

    init(capacity: Int = 256) {
        self.capacity = capacity
        bytes = UnsafeMutablePointer<CChar>.allocate(capacity: capacity)
    }

    mutating func append(_ byte: CChar) {
        if count + 1 >= capacity { grow(to: count + 2) }
        bytes[count] = byte
        count += 1
    }
    mutating func append(_ text: CString) { append(text, count: strlen(text)) }
    mutating func append(_ text: CString, count length: Int) {
        if count + length + 1 >= capacity { grow(to: count + length + 2) }
        memcpy(bytes + count, text, length)
        count += length
    }
    mutating func append(_ text: StaticString) { append(c(text), count: text.utf8CodeUnitCount) }
    mutating func append(decimal number: UInt64) {
        var digits: (UInt64, UInt64, UInt64) = (0, 0, 0)
        withUnsafeMutableBytes(of: &digits) { raw in
            var rest = number
            var at = raw.count
            repeat {
                at -= 1
                raw[at] = UInt8(0x30 + rest % 10)
                rest /= 10
            } while rest > 0
            append(raw.baseAddress!.advanced(by: at).assumingMemoryBound(to: CChar.self), count: raw.count - at)
        }
    }
    mutating func truncate(to length: Int) { count = length }

    /// The content; valid until the next change.
    var cString: CString {
        bytes[count] = 0
        return UnsafePointer(bytes)
    }

    private mutating func grow(to needed: Int) {
        var larger = capacity * 2
        while larger < needed { larger *= 2 }
        let moved = UnsafeMutablePointer<CChar>.allocate(capacity: larger)
        memcpy(moved, bytes, count)
        bytes.deallocate()
        bytes = moved
        capacity = larger
    }
}

func joined(_ a: CString, _ b: StaticString) -> CString {
    var buffer = ByteBuffer(capacity: strlen(a) + b.utf8CodeUnitCount + 2)
    buffer.append(a)
    buffer.append(b)
    return buffer.cString
}

/// A copy of `bytes` with a NUL behind it.
func copied(_ bytes: UnsafeRawBufferPointer) -> CString {
    var buffer = ByteBuffer(capacity: bytes.count + 2)
    if let base = bytes.baseAddress { buffer.append(base.assumingMemoryBound(to: CChar.self), count: bytes.count) }
    return buffer.cString
}

/// `path` made absolute against `directory` and cleaned by its text alone: no
/// empty, `.` or `..` components and no slash at the end (except `/` itself).
func cleaned(_ path: CString, in directory: CString?) -> CString {
    var result = ByteBuffer(capacity: strlen(path) + (directory.map { strlen($0) } ?? 0) + 3)
    if path[0] != slash, let directory { appendComponents(of: directory, to: &result) }
    appendComponents(of: path, to: &result)
    if result.count == 0 { result.append(slash) }
    return result.cString
}

private func appendComponents(of path: CString, to result: inout ByteBuffer) {
    var at = 0
    while path[at] != 0 {
        while path[at] == slash { at += 1 }
        let start = at
        while path[at] != 0, path[at] != slash { at += 1 }
        let length = at - start
        if length == 0 || (length == 1 && path[start] == dot) { continue }
        if length == 2, path[start] == dot, path[start + 1] == dot {
            while result.count > 0 {
                result.truncate(to: result.count - 1)
                if result.bytes[result.count] == slash { break }
            }
            continue
        }
        result.append(slash)
        result.append(path + start, count: length)
    }
}

private let dot = CChar(0x2E)
