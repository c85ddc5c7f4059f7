/// Names close to a mistyped one, for "did you mean".
package enum NearMiss {
    /// Up to `limit` of `candidates` within a third of the word's length in edits, nearest first.
    package static func nearest(to word: String, among candidates: [String], limit: Int = 3) -> [String] {
        let allowed = max(1, word.count / 3)
        return
            candidates
            .map { (name: $0, distance: distance(word, $0, atMost: allowed)) }
            .filter { $0.distance <= allowed || (word.count >= 3 && $0.name.hasPrefix(word)) }
            .sorted { ($0.distance, $0.name) < ($1.distance, $1.name) }
            .prefix(limit)
            .map(\.name)
    }

    /// Edits (insert, delete, replace, swap neighbours) between two words; `atMost + 1` when there are more.
    static func distance(_ a: String, _ b: String, atMost: Int) -> Int {
        let a = Array(a.utf8)
        let b = Array(b.utf8)
        if abs(a.count - b.count) > atMost { return atMost + 1 }
        var beforeLast: [Int] = []
        var last = Array(0...b.count)
        for i in 0..<a.count {
            var row = [i + 1]
            for j in 0..<b.count {
                var best = min(last[j + 1] + 1, row[j] + 1, last[j] + (a[i] == b[j] ? 0 : 1))
                if i > 0, j > 0, a[i] == b[j - 1], a[i - 1] == b[j] { best = min(best, beforeLast[j - 1] + 1) }
                row.append(best)
            }
            beforeLast = last
            last = row
        }
        return min(last[b.count], atMost + 1)
    }
}
