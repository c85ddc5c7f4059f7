import Glibc

/// FNV-1a of 64 bits: who could make two containers collide is the caller.
struct NameHash {
    private(set) var value: UInt64 = 0xCBF2_9CE4_8422_2325

    mutating func add(_ bytes: UnsafeRawBufferPointer) {
        var index = 0
        while index < bytes.count {
            value = (value ^ UInt64(bytes[index])) &* 0x100_0000_01B3
            index += 1
        }
        value = (value ^ 0x100) &* 0x100_0000_01B3
    }
    mutating func add(_ text: CString?) {
        guard let text else { return add(1) }
        add(UnsafeRawBufferPointer(start: text, count: strlen(text)))
    }
    mutating func add(_ number: UInt64) {
        var number = number
        withUnsafeBytes(of: &number) { add($0) }
    }
}
