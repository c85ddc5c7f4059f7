import Foundation

/// The targets of Package.swift with what each links, read from its text: asking the package
/// manager would wait for the lock of the build that runs the tests.
enum ManifestTargets {
    /// By target, the names as `import` spells them; targets of tests are left out.
    static func read(_ manifest: String) -> [String: Set<String>] {
        var products: [String: String] = [:]
        for match in manifest.matches(of: /let (\w+): Target\.Dependency = \.product\(name: "(\w+)"/) {
            products[String(match.output.1)] = String(match.output.2)
        }
        // A comment, not the slashes of an address.
        let code = manifest.replacing(/(^|[^:])\/\/[^\n]*/) { $0.output.1 }
        var targets: [String: Set<String>] = [:]
        let start = /(?:^|[\s(])(?:target|\.target|\.executableTarget|\.systemLibrary)\(\s*(?:name: )?"([\w-]+)"/
        for match in code.matches(of: start) {
            let call = arguments(of: code[match.range.lowerBound...])
            guard !call.contains("path: \"Tests/") else { continue }
            targets[String(match.output.1)] = dependencies(in: call.dropFirst(match.output.0.count), products)
        }
        return targets
    }

    /// From a call's name to its closing parenthesis.
    private static func arguments(of text: Substring) -> Substring {
        var depth = 0
        for index in text.indices {
            if text[index] == "(" { depth += 1 }
            if text[index] == ")" {
                depth -= 1
                if depth == 0 { return text[...index] }
            }
        }
        return text
    }

    /// The first list after the name: `["A", b]` or `dependencies: ["A", b]`; providers of a system library are none.
    private static func dependencies(in call: Substring, _ products: [String: String]) -> Set<String> {
        guard let open = call.firstIndex(of: "["), let close = call[open...].firstIndex(of: "]") else { return [] }
        let before = call[..<open]
        guard !before.contains("providers:"), !before.contains("swiftSettings:") else { return [] }
        return Set(
            call[call.index(after: open)..<close].split(whereSeparator: { ",\n ".contains($0) }).map { word in
                products[String(word)] ?? word.trimmingCharacters(in: ["\""])
            })
    }
}
