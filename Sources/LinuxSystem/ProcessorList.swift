import CLinux
import Glibc

/// A set of processors in the kernel's words: `0-3,8` (cpuset(7), "List format").
package struct ProcessorList: Equatable, Sendable, CustomStringConvertible {
    /// One past the largest number the kernel can be built for (NR_CPUS of x86: 8192).
    package static let bound = 8192

    package private(set) var words = [UInt64](repeating: 0, count: bound / 64)

    package init() {}

    /// nil when `text` is no list, or empty.
    package init?(_ text: some StringProtocol) {
        for part in text.split(separator: ",", omittingEmptySubsequences: false) {
            let ends = part.split(separator: "-", omittingEmptySubsequences: false)
            guard let first = ends.first, ends.count <= 2, let low = Self.number(first),
                let high = ends.count == 2 ? Self.number(ends[1]) : low, low <= high
            else { return nil }
            for processor in low...high { words[processor / 64] |= 1 << UInt64(processor % 64) }
        }
    }

    private static func number(_ text: some StringProtocol) -> Int? {
        guard !text.isEmpty, text.utf8.allSatisfy({ (0x30...0x39).contains($0) }), let number = Int(text),
            number < bound
        else { return nil }
        return number
    }

    /// Those the calling thread may run on. sched_getaffinity(2)
    package static func allowed() -> ProcessorList {
        var list = ProcessorList()
        let bytes = Int(linux_sched_getaffinity(0, bound / 8, &list.words))
        if bytes <= 0 { list.words = ProcessorList().words }
        return list
    }

    /// Lets the calling thread, and what it starts, run on these only. sched_setaffinity(2)
    package func confine() throws(SyscallError) {
        let words = self.words
        try checked("sched_setaffinity", description) { linux_sched_setaffinity(0, Self.bound / 8, words) }
    }

    package var numbers: [Int] {
        (0..<Self.bound).filter { words[$0 / 64] & 1 << UInt64($0 % 64) != 0 }
    }
    package var count: Int { words.reduce(0) { $0 + $1.nonzeroBitCount } }

    package func subtracting(_ other: ProcessorList) -> ProcessorList {
        var rest = self
        for index in words.indices { rest.words[index] &= ~other.words[index] }
        return rest
    }

    /// The `count` lowest.
    package func prefix(_ count: Int) -> ProcessorList {
        var result = ProcessorList()
        for processor in numbers.prefix(count) { result.words[processor / 64] |= 1 << UInt64(processor % 64) }
        return result
    }

    package var description: String {
        var parts: [String] = []
        var run: (Int, Int)?
        func close() {
            guard let (low, high) = run else { return }
            parts.append(low == high ? "\(low)" : "\(low)-\(high)")
        }
        for processor in numbers {
            if let (low, high) = run, high + 1 == processor {
                run = (low, processor)
            } else {
                close()
                run = (processor, processor)
            }
        }
        close()
        return parts.joined(separator: ",")
    }
}
