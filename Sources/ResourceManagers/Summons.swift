/// What the leader tells a process that the batch system has started beside it: to be the agent of its node,
/// or that the job does not need it. As text: the job's secret, then `INDEX ADDRESSES` or `- -`, then a dot.
package struct Summons: Equatable, Sendable {
    /// In the order of the job's node numbers; nil: not needed.
    package var index: Int?
    package var addresses: String

    package init(index: Int?, addresses: String) {
        self.index = index
        self.addresses = addresses
    }

    /// What follows the secret's line.
    package var note: String { (index.map { "\($0) \(addresses)" } ?? "- -") + "\n.\n" }

    /// - Returns: Nil as long as the text is not there to its end.
    package static func parse(_ text: String) -> (secret: String, summons: Summons)? {
        let lines = text.split(separator: "\n", omittingEmptySubsequences: false)
        guard lines.count >= 3, lines[2] == "." else { return nil }
        let words = lines[1].split(separator: " ")
        guard words.count == 2 else { return nil }
        if words[0] == "-" { return (String(lines[0]), Summons(index: nil, addresses: "")) }
        guard let index = Int(words[0]), index >= 0, !lines[0].isEmpty else { return nil }
        return (String(lines[0]), Summons(index: index, addresses: String(words[1])))
    }
}

/// Where a follower finds its summons.
package struct FollowerPost: Equatable, Sendable {
    /// Prints it; fails as long as there is none.
    package var look: [String]
    /// Removes it: it is for one run.
    package var take: [String]

    package init(look: [String], take: [String]) {
        self.look = look
        self.take = take
    }
}
