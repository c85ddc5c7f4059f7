import Glibc

/// The pages of this program's code that this process has mapped.
///
/// A process that only sleeps needs none of them, and an idle virtual node is mostly
/// that: dropping them halves what the nodes' inits cost. The pages stay in the page
/// cache and come back by a minor fault when the process wakes.
package struct ResidentText: Sendable {
    private var ranges: [(start: UInt, end: UInt)] = []

    /// Finds the executable's own code in proc_pid_maps(5). Only mappings without write
    /// permission count: what MADV_DONTNEED drops of others would be lost, not reread.
    package init() {
        guard let file = try? OwnedDescriptor.open("/proc/self/maps", O_RDONLY), let bytes = try? file.readAll() else {
            return
        }
        for line in String(decoding: bytes, as: UTF8.self).split(separator: "\n") {
            let words = line.split(separator: " ", omittingEmptySubsequences: true)
            guard words.count > 5, words[1] == "r-xp", words[5].hasPrefix("/") else { continue }
            let ends = words[0].split(separator: "-")
            if ends.count == 2, let start = UInt(ends[0], radix: 16), let end = UInt(ends[1], radix: 16) {
                ranges.append((start, end))
            }
        }
    }

    /// madvise(2) `MADV_DONTNEED`; a refusal only means that nothing is saved.
    package func release() {
        for range in ranges {
            _ = madvise(UnsafeMutableRawPointer(bitPattern: range.start), Int(range.end - range.start), MADV_DONTNEED)
        }
    }
}
