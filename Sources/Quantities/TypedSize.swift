/// Sizes as people type them: `500M`, `2GiB`, `1.5g`, `64mb`.
package enum TypedSize {
    /// Bytes; nil for what is no size, or more than 2⁶³−1.
    ///
    /// `k m g t` in either case, with or without `b` or `ib` behind, are powers of 1024 wherever one is typed, as
    /// docker's `--memory` (go-units, RAMInBytes) and Slurm's `--mem` count. docker counts in powers of 1000 at
    /// some other options; one spelling with two meanings costs more than that likeness is worth.
    /// - Parameter bareUnit: What a number alone counts, in bytes.
    package static func bytes(_ text: some StringProtocol, bareUnit: Int64 = 1) -> Int64? {
        let digits = text.utf8.prefix { isDigit($0) || $0 == UInt8(ascii: ".") }
        guard let factor = factor(of: text.utf8.dropFirst(digits.count), bareUnit) else { return nil }
        let parts = digits.split(separator: UInt8(ascii: "."), omittingEmptySubsequences: false)
        guard (1...2).contains(parts.count), let whole = number(parts[0]) else { return nil }
        let (bytes, isTooLarge) = whole.multipliedReportingOverflow(by: factor)
        if isTooLarge { return nil }
        guard parts.count == 2 else { return bytes }
        guard let fraction = fraction(parts[1], of: factor) else { return nil }
        let (sum, isOver) = bytes.addingReportingOverflow(fraction)
        return isOver ? nil : sum
    }

    private static func factor(of unit: some Collection<UInt8>, _ bareUnit: Int64) -> Int64? {
        let letters = unit.map { $0 | 0x20 }
        guard let first = letters.first else { return bareUnit }
        if letters == Array("b".utf8) { return 1 }
        guard let power = Array("kmgt".utf8).firstIndex(of: first) else { return nil }
        let rest = Array(letters.dropFirst())
        return rest.isEmpty || rest == Array("b".utf8) || rest == Array("ib".utf8) ? 1 << (10 * (power + 1)) : nil
    }

    private static func number(_ digits: some Collection<UInt8>) -> Int64? {
        digits.isEmpty ? nil : Int64(String(decoding: digits, as: UTF8.self))
    }

    /// `digits` behind the point, times `factor`, rounded down. Six are enough for any size.
    private static func fraction(_ digits: some Collection<UInt8>, of factor: Int64) -> Int64? {
        guard (1...6).contains(digits.count), let value = number(digits) else { return nil }
        let scale = (0..<digits.count).reduce(Int64(1)) { power, _ in power * 10 }
        return Int64(Double(value) / Double(scale) * Double(factor))
    }

    private static func isDigit(_ byte: UInt8) -> Bool { (0x30...0x39).contains(byte) }
}
