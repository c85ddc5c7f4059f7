/// A decoding table of one Huffman code of DEFLATE (RFC 1951, 3.2.2), in the layout fast decoders use:
/// a main table indexed by the next bits, and sub-tables for longer codewords.
///
/// An entry, 32 bits: the literal, base value or sub-table's place (16 to 30), the literal mark (31),
/// the marks below, the extra bits (8 to 12), the bits to consume (0 to 4).
struct HuffmanTable: ~Copyable {
    static let literal: UInt32 = 1 << 31
    /// Anything the fast path does not handle: a sub-table, the end of the block, an unused codeword.
    static let exceptional: UInt32 = 1 << 13
    static let subtable: UInt32 = 1 << 14
    static let endOfBlock: UInt32 = 1 << 15

    let entries: UnsafeMutablePointer<UInt32>
    private let mainBits: Int
    private let capacity: Int

    /// Room for `symbols` symbols of at most 15 bits, `mainBits` of which index the main table.
    init(mainBits: Int, symbols: Int) {
        self.mainBits = mainBits
        capacity = (1 << mainBits) + (symbols << (15 - mainBits))
        entries = .allocate(capacity: capacity)
    }

    deinit { entries.deallocate() }

    /// Builds the table for codewords of `lengths`; `meaning[symbol]` is an entry without its bits to consume.
    /// False when the lengths make no code. One codeword of one bit may leave the code incomplete, as RFC 1951
    /// allows for distances.
    func build(_ lengths: UnsafePointer<UInt8>, _ count: Int, _ meaning: UnsafePointer<UInt32>) -> Bool {
        withUnsafeTemporaryAllocation(of: Int.self, capacity: 48) { scratch in
            let counts = scratch.baseAddress!
            let next = counts + 16
            scratch.update(repeating: 0)
            for i in 0..<count { counts[Int(lengths[i])] += 1 }
            counts[0] = 0
            var code = 0
            var space = 0
            var used = 0
            for length in 1...15 {
                code = (code + counts[length - 1]) << 1
                next[length] = code
                space += counts[length] << (15 - length)
                used += counts[length]
            }
            guard space == 1 << 15 || used == 0 || (used == 1 && space == 1 << 14) else { return false }
            let main = 1 << mainBits
            if space != 1 << 15 { entries.update(repeating: HuffmanTable.exceptional, count: main) }
            // 0 marks a main entry without a sub-table yet; every complete code overwrites all of it.
            var free = main
            if (mainBits + 1...15).contains(where: { counts[$0] > 0 }) {
                for i in 0..<main { entries[i] = 0 }
            }
            let subBits = 15 - mainBits
            for symbol in 0..<count {
                let length = Int(lengths[symbol])
                if length == 0 { continue }
                let reversed = HuffmanTable.reverse(next[length], length)
                next[length] += 1
                if length <= mainBits {
                    let entry = meaning[symbol] | UInt32(length)
                    var at = reversed
                    while at < main {
                        entries[at] = entry
                        at += 1 << length
                    }
                    continue
                }
                let root = reversed & (main - 1)
                if entries[root] & HuffmanTable.subtable == 0 {
                    entries[root] =
                        UInt32(free) << 16 | HuffmanTable.exceptional | HuffmanTable.subtable | UInt32(mainBits)
                    free += 1 << subBits
                }
                let base = Int(entries[root] >> 16)
                let entry = meaning[symbol] | UInt32(length - mainBits)
                var at = reversed >> mainBits
                while at < 1 << subBits {
                    entries[base + at] = entry
                    at += 1 << (length - mainBits)
                }
            }
            return true
        }
    }

    private static func reverse(_ code: Int, _ length: Int) -> Int {
        var result = 0
        var code = code
        for _ in 0..<length {
            result = result << 1 | code & 1
            code >>= 1
        }
        return result
    }
}

/// The alphabets of DEFLATE (RFC 1951, 3.2.5), as table entries.
enum DeflateAlphabet {
    /// 286 literals and lengths, 2 unused.
    static func makeLengths() -> [UInt32] {
        var result = (0..<256).map { HuffmanTable.literal | UInt32($0) << 16 }
        result.append(HuffmanTable.exceptional | HuffmanTable.endOfBlock)
        var base = 3
        for symbol in 257..<285 {
            let extra = symbol < 265 ? 0 : (symbol - 261) / 4
            result.append(UInt32(base) << 16 | UInt32(extra) << 8)
            base += 1 << extra
        }
        result.append(258 << 16)
        return result + [HuffmanTable.exceptional, HuffmanTable.exceptional]
    }

    /// 30 distances, 2 unused.
    static func makeDistances() -> [UInt32] {
        var result: [UInt32] = []
        var base = 1
        for symbol in 0..<30 {
            let extra = symbol < 4 ? 0 : symbol / 2 - 1
            result.append(UInt32(base) << 16 | UInt32(extra) << 8)
            base += 1 << extra
        }
        return result + [HuffmanTable.exceptional, HuffmanTable.exceptional]
    }
}
