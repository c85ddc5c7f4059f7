/// The picture of Documentation/Design/architecture.md, drawn from ``ImportRules/rooms``.
enum ArchitecturePicture {
    static func text() -> String {
        let columns: [(title: String, groups: Set<ImportRules.Group>)] = [
            ("CONTAINER", [.container]), ("BASE AND MEETING", [.base, .meeting]), ("JOB", [.job]),
        ]
        let rooms = ImportRules.rooms
        var lines = [row("", columns.map(\.title))]
        for level in stride(from: rooms.values.map(\.level).max() ?? 0, through: 0, by: -1) {
            let cells = columns.map { column in
                wrapped(
                    rooms.filter { $0.value.level == level && column.groups.contains($0.value.group) }.keys.sorted())
            }
            let name = level == rooms.values.map(\.level).max() ? "exe" : "L\(level)"
            for line in 0..<max(1, cells.map(\.count).max() ?? 1) {
                lines.append(row(line == 0 ? name : "", cells.map { line < $0.count ? $0[line] : "" }))
            }
        }
        return lines.joined(separator: "\n") + "\n"
    }

    private static let width = 32

    private static func wrapped(_ names: [String]) -> [String] {
        var lines: [String] = []
        for name in names {
            if let last = lines.last, last.count + name.count + 2 < width {
                lines[lines.count - 1] = last + "  " + name
            } else {
                lines.append(name)
            }
        }
        return lines
    }

    private static func row(_ label: String, _ cells: [String]) -> String {
        var line = label.padded(to: 6)
        for cell in cells { line += cell.padded(to: width) }
        while line.last == " " { line.removeLast() }
        return line
    }
}

extension String {
    fileprivate func padded(to width: Int) -> String {
        self + String(repeating: " ", count: Swift.max(0, width - count))
    }
}
