import Diagnostics

/// Which GPUs were asked for: docker's spellings of `--gpus`, and lists of ids.
package enum GPURequest: Equatable, Sendable {
    case all
    /// The first `count` of those the caller may use.
    case count(Int)
    /// Indices, `GPU-…` or `MIG-…` UUIDs (or their beginnings), `GPU:MIG` indices.
    case devices([String])
    /// `vendor.com/class=name`, by a CDI specification.
    case container([String])

    /// `all`, `2`, `0,1`, `GPU-8a…,MIG-…`, `device=0`, `"device=0,1"`, `count=2`, `all,capabilities=utility`,
    /// `nvidia.com/gpu=0`.
    ///
    /// - Throws: `option-value`.
    package init(_ typed: String) throws(Diagnostic) {
        func refused(_ reason: String) -> Diagnostic {
            Diagnostic(
                DiagnosticCode("option-value"), "--gpus \(typed)", reasons: [reason],
                remedies: [
                    "--gpus all", "--gpus 2 (that many)", "--gpus device=0,2 (these)", "nvidia-smi -L lists them",
                ])
        }
        // docker's documentation has the shell quote '"device=0,1"': the inner quotes arrive.
        let text = typed.filter { $0 != "\"" }
        var ids: [String] = []
        var count: Int?
        var takesAll = false
        var key = ""
        for part in text.split(separator: ",", omittingEmptySubsequences: false).map(String.init) {
            var value = part
            if let equals = part.firstIndex(of: "="), !part[..<equals].contains("/") {
                key = String(part[..<equals])
                value = String(part[part.index(after: equals)...])
            }
            switch key {
            case "device", "": if value == "all" { takesAll = true } else { ids.append(value) }
            case "count":
                if value == "all" || value == "-1" { takesAll = true } else { count = Int(value) ?? 0 }
            case "capabilities", "driver", "options": break
            default: throw refused("'\(key)' is none of device, count, driver, capabilities")
            }
        }
        if key != "", key != "device", !takesAll, ids.isEmpty, count == nil { takesAll = true }
        if takesAll, ids.isEmpty, count == nil {
            self = .all
        } else if let count {
            guard count > 0, ids.isEmpty, !takesAll else { throw refused("not a number of GPUs") }
            self = .count(count)
        } else if takesAll || ids.isEmpty {
            throw refused("'all' and single GPUs exclude each other")
        } else if ids.count == 1, key == "", let count = Int(ids[0]) {
            guard count > 0 else { throw refused("a number of GPUs; the first GPU is 'device=0'") }
            self = .count(count)
        } else if ids.allSatisfy({ $0.contains("/") && $0.contains("=") }) {
            self = .container(ids)
        } else {
            if let wrong = ids.first(where: { !Self.isIdentifier($0) }) {
                throw refused("'\(wrong)' is no index and no UUID of a GPU")
            }
            var seen: Set<String> = []
            self = .devices(ids.filter { seen.insert($0).inserted })
        }
    }

    /// `3`, `0:1`, `GPU-…`, `MIG-…`.
    package static func isIdentifier(_ text: String) -> Bool {
        if text.hasPrefix("GPU-") || text.hasPrefix("MIG-") {
            return text.count > 4 && text.utf8.allSatisfy { $0 > 32 && $0 < 127 }
        }
        let numbers = text.split(separator: ":", omittingEmptySubsequences: false)
        return numbers.count <= 2 && numbers.allSatisfy { !$0.isEmpty && $0.count < 5 && $0.allSatisfy(\.isASCIIDigit) }
    }
}

extension Character {
    fileprivate var isASCIIDigit: Bool { isASCII && isNumber }
}

/// The GPUs a caller was granted by the batch system, as CUDA_VISIBLE_DEVICES says it
/// (CUDA C programming guide, "Environment variables").
package enum GPUGrant: Equatable, Sendable {
    /// The variable is not set: every GPU that the device nodes' modes and cgroups permit.
    case unlimited
    case only([String])

    /// An entry that is no identifier ends the list, as it does for CUDA: `-1` and `NoDevFiles` grant nothing.
    package init(_ variable: String?) {
        guard let variable else {
            self = .unlimited
            return
        }
        let entries = variable.split(separator: ",", omittingEmptySubsequences: false).map {
            String($0.filter { $0 != " " })
        }
        self = .only(Array(entries.prefix { GPURequest.isIdentifier($0) }))
    }
}
