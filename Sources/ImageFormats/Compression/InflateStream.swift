import Glibc

/// Inflates gzip members (RFC 1951, 1952) about twice as fast as zlib, for content that is verified by
/// SHA-256 anyway: the members' CRCs are not computed, their lengths are checked.
///
/// zlib stays for what no digest covers. The faster libraries lose for other reasons: isa-l has no static
/// form in Debian, libdeflate wants all of the output in memory.
package final class InflateStream: ByteStream {
    private enum Size {
        static let window = 32 << 10
        /// Decoded at a time, behind the window.
        static let output = 256 << 10
        /// A match may be copied past the end of the output by this much: 258 bytes and a word's overrun.
        static let outputSlack = 512
        static let input = 256 << 10
        /// Zeros behind the input: what one step of decoding may look ahead, a block's header included.
        static let inputSlack = 1024
    }
    fileprivate enum State { case memberStart, blockStart, stored, codes, trailer, finished }

    private let source: any ByteStream
    private let input: UnsafeMutablePointer<UInt8>
    private let output: UnsafeMutablePointer<UInt8>
    private var next: UnsafeMutablePointer<UInt8>
    private var inputEnd: UnsafeMutablePointer<UInt8>
    private var isInputFinal = false
    /// Bits taken from the input and not used; above `bitCount` lie bits that will be taken again.
    private var bits: UInt64 = 0
    private var bitCount: UInt64 = 0
    private var state = State.memberStart
    private var isFirstMember = true
    private var isLastBlock = false
    private var storedRest = 0
    /// `output[given..<filled]` is decoded and not yet read.
    private var given = 0
    private var filled = 0
    /// Bytes of the member so far; a distance must not reach in front of it.
    private var memberBytes = 0

    private let literals = HuffmanTable(mainBits: 11, symbols: 288)
    private let distances = HuffmanTable(mainBits: 8, symbols: 32)
    private let precode = HuffmanTable(mainBits: 7, symbols: 19)
    private let lengthMeaning = DeflateAlphabet.makeLengths()
    private let distanceMeaning = DeflateAlphabet.makeDistances()
    private let precodeMeaning = (0..<19).map { UInt32($0) << 16 }

    package init(_ source: any ByteStream) {
        self.source = source
        input = .allocate(capacity: Size.input + Size.inputSlack)
        output = .allocate(capacity: Size.window + Size.output + Size.outputSlack)
        next = input
        inputEnd = input
        input.initialize(repeating: 0, count: Size.input + Size.inputSlack)
        output.initialize(repeating: 0, count: Size.window + Size.output + Size.outputSlack)
    }

    deinit {
        input.deallocate()
        output.deallocate()
    }

    package func read(into buffer: UnsafeMutableRawBufferPointer) throws(ArchiveFault) -> Int {
        if given == filled { try decode() }
        let n = min(buffer.count, filled - given)
        if n > 0 { memcpy(buffer.baseAddress!, output + given, n) }
        given += n
        return n
    }

    /// Fills the output behind the window, unless the data ends.
    private func decode() throws(ArchiveFault) {
        if filled > Size.window {
            memmove(output, output + (filled - Size.window), Size.window)
            filled = Size.window
            given = Size.window
        }
        let limit = Size.window + Size.output
        while filled < limit, state != .finished {
            try refill()
            switch state {
            case .memberStart: try startMember()
            case .blockStart: try startBlock()
            case .stored: copyStored(limit)
            case .codes: try decodeCodes(limit)
            case .trailer: try endMember()
            case .finished: break
            }
        }
    }

    // MARK: Input

    private var inputRest: Int { inputEnd - next }

    /// Leaves at least `inputSlack` bytes to read, or all that are left with zeros behind them.
    private func refill() throws(ArchiveFault) {
        guard inputRest < Size.inputSlack, !isInputFinal else { return }
        // Whole bytes held as bits go back, or they could not when the block turns out to be a stored one.
        next -= Int(bitCount >> 3)
        bitCount &= 7
        bits &= (1 &<< bitCount) &- 1
        let rest = max(0, inputRest)
        memmove(input, next, rest)
        next = input
        inputEnd = input + rest
        while inputRest < Size.inputSlack {
            let room = UnsafeMutableRawBufferPointer(start: inputEnd, count: Size.input - inputRest)
            let n = try source.read(into: room)
            if n == 0 {
                isInputFinal = true
                break
            }
            inputEnd += n
        }
        memset(inputEnd, 0, Size.inputSlack)
    }

    private var truncated: ArchiveFault { ArchiveFault(.corrupt, "truncated: gzip data ends in the middle") }
    private func corrupt(_ reason: StaticString) -> ArchiveFault {
        ArchiveFault(.corrupt, "corrupt gzip data: \(reason)")
    }

    /// Whether more was used than there was: bits still held are not used.
    private var isOverrun: Bool { next - Int(bitCount >> 3) > inputEnd }

    @inline(__always)
    private func fillBits() {
        let word = UInt64(littleEndian: UnsafeRawPointer(next).loadUnaligned(as: UInt64.self))
        bits |= word &<< bitCount
        next += Int((63 &- bitCount) &>> 3)
        bitCount |= 56
    }

    @inline(__always)
    private func take(_ count: UInt64) -> Int {
        let value = bits & ((1 &<< count) &- 1)
        bits &>>= count
        bitCount &-= count
        return Int(value)
    }

    /// Gives whole unused bytes back and drops the rest of the current one.
    private func alignToByte() {
        next -= Int(bitCount >> 3)
        bits = 0
        bitCount = 0
    }

    // MARK: Members

    private func byte() throws(ArchiveFault) -> UInt8 {
        if next >= inputEnd { try refill() }
        guard next < inputEnd else { throw truncated }
        defer { next += 1 }
        return next.pointee
    }

    private func startMember() throws(ArchiveFault) {
        if !isFirstMember {
            // Zero padding after the last member is what tape tools leave.
            while inputRest > 0, next.pointee == 0 { next += 1 }
            if inputRest == 0 {
                if isInputFinal { state = .finished }
                return
            }
        }
        isFirstMember = false
        guard try byte() == 0x1F, try byte() == 0x8B else { throw corrupt("incorrect header check") }
        guard try byte() == 8 else { throw corrupt("unknown compression method") }
        let flags = try byte()
        guard flags & 0xE0 == 0 else { throw corrupt("unknown header flags set") }
        for _ in 0..<6 { _ = try byte() }
        if flags & 4 != 0 {
            let length = Int(try byte()) | Int(try byte()) << 8
            for _ in 0..<length { _ = try byte() }
        }
        if flags & 8 != 0 { while try byte() != 0 {} }
        if flags & 16 != 0 { while try byte() != 0 {} }
        if flags & 2 != 0 { for _ in 0..<2 { _ = try byte() } }
        memberBytes = 0
        state = .blockStart
    }

    private func endMember() throws(ArchiveFault) {
        alignToByte()
        guard next <= inputEnd else { throw truncated }
        for _ in 0..<4 { _ = try byte() }  // the CRC; see above
        var length: UInt32 = 0
        for shift in 0..<4 { length |= UInt32(try byte()) << (8 * UInt32(shift)) }
        guard length == UInt32(truncatingIfNeeded: memberBytes) else { throw corrupt("incorrect length check") }
        state = .memberStart
    }

    // MARK: Blocks

    private func startBlock() throws(ArchiveFault) {
        if isLastBlock {
            isLastBlock = false
            state = .trailer
            return
        }
        fillBits()
        isLastBlock = take(1) == 1
        switch take(2) {
        case 0:
            _ = take(bitCount & 7)
            alignToByte()
            guard inputRest >= 4 else { throw truncated }
            let length = Int(next[0]) | Int(next[1]) << 8
            guard length == ~(Int(next[2]) | Int(next[3]) << 8) & 0xFFFF else {
                throw corrupt("invalid stored block lengths")
            }
            next += 4
            storedRest = length
            state = .stored
        case 1:
            try buildFixed()
            state = .codes
        case 2:
            try buildDynamic()
            state = .codes
        default: throw corrupt("invalid block type")
        }
        if isOverrun { throw truncated }
    }

    private func copyStored(_ limit: Int) {
        let n = min(storedRest, limit - filled, max(0, inputRest))
        memcpy(output + filled, next, n)
        next += n
        filled += n
        memberBytes += n
        storedRest -= n
        if storedRest == 0 { state = .blockStart } else if isInputFinal, inputRest <= 0 { state = .trailer }
    }

    private func buildFixed() throws(ArchiveFault) {
        var lengths = [UInt8](repeating: 8, count: 288)
        for i in 144..<256 { lengths[i] = 9 }
        for i in 256..<280 { lengths[i] = 7 }
        let isCode =
            literals.build(lengths, 288, lengthMeaning)
            && distances.build([UInt8](repeating: 5, count: 32), 32, distanceMeaning)
        guard isCode else { throw corrupt("fixed codes") }
    }

    private func buildDynamic() throws(ArchiveFault) {
        fillBits()
        let literalCount = take(5) + 257
        let distanceCount = take(5) + 1
        let precodeCount = take(4) + 4
        guard literalCount <= 286, distanceCount <= 30 else { throw corrupt("too many length or distance symbols") }
        let order = [16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15]
        var precodeLengths = [UInt8](repeating: 0, count: 19)
        for i in 0..<precodeCount {
            fillBits()
            precodeLengths[order[i]] = UInt8(take(3))
        }
        guard precode.build(precodeLengths, 19, precodeMeaning) else { throw corrupt("invalid code lengths set") }
        var lengths = [UInt8](repeating: 0, count: 286 + 30 + 138)
        let total = literalCount + distanceCount
        var i = 0
        while i < total {
            fillBits()
            let entry = precode.entries[Int(bits & 127)]
            guard entry & HuffmanTable.exceptional == 0 else { throw corrupt("invalid code lengths set") }
            _ = take(UInt64(entry & 31))
            let symbol = Int(entry >> 16)
            if symbol < 16 {
                lengths[i] = UInt8(symbol)
                i += 1
                continue
            }
            let count = symbol == 16 ? 3 + take(2) : symbol == 17 ? 3 + take(3) : 11 + take(7)
            guard symbol != 16 || i > 0, i + count <= total else { throw corrupt("invalid bit length repeat") }
            if symbol == 16 { for j in i..<i + count { lengths[j] = lengths[i - 1] } }
            i += count
        }
        guard lengths[256] != 0 else { throw corrupt("missing end-of-block") }
        let isCode = lengths.withUnsafeBufferPointer { all in
            literals.build(all.baseAddress!, literalCount, lengthMeaning)
                && distances.build(all.baseAddress! + literalCount, distanceCount, distanceMeaning)
        }
        guard isCode else { throw corrupt("invalid literal/lengths or distances set") }
    }
}

extension InflateStream {
    /// Decodes codewords until the block, the output or the input at hand ends.
    fileprivate func decodeCodes(_ limit: Int) throws(ArchiveFault) {
        let start = output + filled
        var loop = CodeLoop(
            literals: UnsafePointer(literals.entries), distances: UnsafePointer(distances.entries),
            next: UnsafePointer(next),
            bits: bits, count: bitCount, out: start, oldest: max(start - memberBytes, output))
        let stop = loop.run(UnsafePointer(isInputFinal ? inputEnd + 8 : inputEnd - 16), output + limit)
        next = UnsafeMutablePointer(mutating: loop.next)
        bits = loop.bits
        bitCount = loop.count
        memberBytes += loop.out - start
        filled = loop.out - output
        if isOverrun { throw truncated }
        switch stop {
        case .pause: break
        case .endOfBlock: state = .blockStart
        case .badCode: throw corrupt("invalid code")
        case .badDistance: throw corrupt("invalid distance too far back")
        }
    }
}

/// The inner loop, on a value of its own: the compiler keeps its fields in registers, as it may not
/// keep a class's.
private struct CodeLoop {
    let literals: UnsafePointer<UInt32>
    let distances: UnsafePointer<UInt32>
    var next: UnsafePointer<UInt8>
    var bits: UInt64
    var count: UInt64
    var out: UnsafeMutablePointer<UInt8>
    /// The farthest a distance may reach back.
    let oldest: UnsafeMutablePointer<UInt8>

    enum Stop { case pause, endOfBlock, badCode, badDistance }

    @inline(__always)
    private mutating func fill() {
        bits |= UInt64(littleEndian: UnsafeRawPointer(next).loadUnaligned(as: UInt64.self)) &<< count
        next += Int((63 &- count) &>> 3)
        count |= 56
    }

    @inline(__always)
    private mutating func drop(_ n: UInt64) {
        bits &>>= n
        count &-= n
    }

    /// Writes the literal of `entry`, if it is one.
    @inline(__always)
    private mutating func wrote(_ entry: UInt32) -> Bool {
        guard entry & HuffmanTable.literal != 0 else { return false }
        drop(UInt64(entry & 31))
        out.pointee = UInt8(truncatingIfNeeded: entry &>> 16)
        out += 1
        return true
    }

    /// The base of `entry` and its extra bits, all consumed.
    @inline(__always)
    private mutating func value(_ entry: UInt32) -> Int {
        drop(UInt64(entry & 31))
        let extra = UInt64(entry &>> 8 & 31)
        defer { drop(extra) }
        return Int(entry &>> 16) &+ Int(bits & ((1 &<< extra) &- 1))
    }

    /// Every turn needs at most 16 bytes of input and writes at most 258 and a word, so the bounds are
    /// looked at once per turn. 56 bits hold three literals of the main table, or one match.
    @inline(__always)
    mutating func run(_ inputLimit: UnsafePointer<UInt8>, _ outputLimit: UnsafeMutablePointer<UInt8>) -> Stop {
        while next < inputLimit, out < outputLimit {
            fill()
            var entry = literals[Int(bits & 2047)]
            if wrote(entry) {
                entry = literals[Int(bits & 2047)]
                if wrote(entry) {
                    entry = literals[Int(bits & 2047)]
                    if wrote(entry) { continue }
                }
                fill()
            }
            if entry & HuffmanTable.exceptional != 0 {
                if entry & HuffmanTable.subtable != 0 {
                    drop(11)
                    entry = literals[Int(entry &>> 16) &+ Int(bits & 15)]
                    if wrote(entry) { continue }
                }
                if entry & HuffmanTable.endOfBlock != 0 {
                    drop(UInt64(entry & 31))
                    return .endOfBlock
                }
                if entry & HuffmanTable.exceptional != 0 { return .badCode }
            }
            let length = value(entry)
            var distanceEntry = distances[Int(bits & 255)]
            if distanceEntry & HuffmanTable.exceptional != 0 {
                if distanceEntry & HuffmanTable.subtable != 0 {
                    drop(8)
                    distanceEntry = distances[Int(distanceEntry &>> 16) &+ Int(bits & 127)]
                }
                if distanceEntry & HuffmanTable.exceptional != 0 { return .badCode }
            }
            let distance = value(distanceEntry)
            guard distance <= out - oldest else { return .badDistance }
            copyMatch(distance, length)
        }
        return .pause
    }

    /// Copies `length` bytes from `distance` back; may write up to 7 bytes more.
    @inline(__always)
    private mutating func copyMatch(_ distance: Int, _ length: Int) {
        let end = out + length
        var to = UnsafeMutableRawPointer(out)
        if distance >= 8 {
            var from = UnsafeRawPointer(out - distance)
            repeat {
                to.storeBytes(of: from.loadUnaligned(as: UInt64.self), as: UInt64.self)
                to += 8
                from += 8
            } while to < UnsafeMutableRawPointer(end)
        } else if distance == 1 {
            let word = UInt64(out[-1]) &* 0x0101_0101_0101_0101
            repeat {
                to.storeBytes(of: word, as: UInt64.self)
                to += 8
            } while to < UnsafeMutableRawPointer(end)
        } else {
            while out < end {
                out.pointee = (out - distance).pointee
                out += 1
            }
        }
        out = end
    }
}
