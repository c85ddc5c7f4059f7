import ContainerRuntime
import Testing

/// Programs come from images; what their headers say may be anything.
@Suite struct HostilePrograms {
    private func program(dynamicOffset: UInt64, loadOffset: UInt64, strings: UInt64) -> [UInt8] {
        var bytes = [UInt8](repeating: 0, count: 512)
        func put(_ at: Int, _ value: UInt64, _ count: Int) {
            for i in 0..<count { bytes[at + i] = UInt8(truncatingIfNeeded: value >> (8 * UInt64(i))) }
        }
        bytes.replaceSubrange(0..<6, with: [0x7F, 0x45, 0x4C, 0x46, 2, 1])
        put(32, 64, 8)
        put(54, 56, 2)
        put(56, 2, 2)
        put(64, 1, 4)
        put(64 + 8, loadOffset, 8)
        put(64 + 32, UInt64(Int64.max), 8)
        put(120, 2, 4)
        put(120 + 8, dynamicOffset, 8)
        put(120 + 32, 64, 8)
        put(256, 5, 8)
        put(264, strings, 8)
        put(272, 1, 8)
        put(280, UInt64(Int64.max), 8)
        return bytes
    }

    @Test func offsetsBeyondTheFileAreNotFollowed() {
        #expect(DynamicSection(program(dynamicOffset: UInt64(Int64.max), loadOffset: 0, strings: 0)) == nil)
        #expect(DynamicSection(program(dynamicOffset: .max, loadOffset: 0, strings: 0)) == nil)
        let section = DynamicSection(program(dynamicOffset: 256, loadOffset: UInt64(Int64.max), strings: 300))
        #expect(section?.needed ?? [] == [])
    }
}
