/// The container's /etc/hosts: the node's own table and the job's nodes after it.
enum HostTable {
    /// - Parameters:
    ///   - own: the node's, hosts(5).
    ///   - isPrivate: in a network of the job's own, its names mean its addresses alone. Else a name that the
    ///     node knows already keeps its line; the resolver takes all.
    ///   - here: the node's name as its kernel says it, and its place in the job.
    static func text(
        _ own: String, names: [String], addresses: [String], isPrivate: Bool, here: (name: String, index: Int)
    ) -> String {
        var lines = own.isEmpty ? ["127.0.0.1 localhost"] : own.split(separator: "\n").map(String.init)
        var added = names.indices.map { (addresses[$0], [names[$0]]) }
        if isPrivate {
            for index in added.indices {
                let short = String(names[index].prefix { $0 != "." })
                if short != names[index], !names.contains(short) { added[index].1.append(short) }
            }
            if added.indices.contains(here.index), !here.name.isEmpty,
                !added.contains(where: { $0.1.contains(here.name) })
            {
                added[here.index].1.append(here.name)
            }
            let taken = Set(added.flatMap { $0.1 })
            lines = lines.compactMap { without(taken, $0) }
        } else {
            let known = Set(lines.flatMap { words($0).dropFirst() })
            added = added.filter { !known.contains($0.1[0]) }
        }
        return (lines + added.map { ([$0.0] + $0.1).joined(separator: " ") }).joined(separator: "\n") + "\n"
    }

    private static func words(_ line: String) -> [String] {
        line.prefix { $0 != "#" }.split { $0 == " " || $0 == "\t" }.map(String.init)
    }

    /// The line without these names; nil when that leaves none.
    private static func without(_ names: Set<String>, _ line: String) -> String? {
        let words = words(line)
        guard words.dropFirst().contains(where: names.contains) else { return line }
        let kept = words.prefix(1) + words.dropFirst().filter { !names.contains($0) }
        return kept.count > 1 ? kept.joined(separator: " ") : nil
    }
}
