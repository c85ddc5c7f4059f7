/// A file and a function stay small enough to be read at once.
enum SizeRules {
    static let fileLineLimit = 500
    static let functionLineLimit = 70
    static let shimLineLimit = 400

    static func violations(in file: TextFile) -> [String] {
        var result: [String] = []
        let count = lineCount(file)
        if count > fileLineLimit { result.append("\(file.path): \(count) lines, limit \(fileLineLimit)") }
        for function in functions(in: file.lines) where function.lineCount > functionLineLimit {
            result.append("\(file.path):\(function.line): \(function.lineCount) lines, limit \(functionLineLimit)")
        }
        return result
    }

    static func lineCount(_ file: TextFile) -> Int {
        file.lines.last == "" ? file.lines.count - 1 : file.lines.count
    }

    /// Functions by their indentation, which `swift format` keeps true: from the
    /// line of `func`, `init` or `deinit` to the closing brace of the same column.
    static func functions(in lines: [String]) -> [(line: Int, lineCount: Int)] {
        var result: [(line: Int, lineCount: Int)] = []
        for (start, line) in lines.enumerated() where startsFunction(line) {
            // A body on its own line.
            if line.hasSuffix("}"), line.contains("{") { continue }
            let indentation = line.prefix { $0 == " " }
            guard let end = lines[start...].firstIndex(where: { $0 == indentation + "}" || $0 == indentation + "})" })
            else { continue }
            // One-line bodies and requirements of protocols have no such brace of their own.
            if let next = lines[(start + 1)...].firstIndex(where: startsFunction), next < end,
                lines[next].prefix(while: { $0 == " " }) == indentation
            {
                continue
            }
            result.append((start + 1, end - start + 1))
        }
        return result
    }

    private static func startsFunction(_ line: String) -> Bool {
        let code = line.trimmingPrefix { $0 == " " }
        guard !code.hasPrefix("//") else { return false }
        let words = code.split(separator: " ").prefix { !$0.contains("(") || $0.hasPrefix("init") || $0.hasPrefix("@") }
        return words.contains("func") || code.hasPrefix("init(") || code.hasPrefix("deinit")
            || words.contains { $0.hasPrefix("init(") || $0.hasPrefix("init<") || $0.hasPrefix("init?(") }
    }
}
