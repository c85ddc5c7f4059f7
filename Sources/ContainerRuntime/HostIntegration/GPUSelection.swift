import Diagnostics

/// The GPUs that one launch gets: what was asked for, within what was granted.
package struct GPUSelection: Equatable, Sendable {
    /// For CUDA_VISIBLE_DEVICES; nil leaves the variable as it is.
    package var visible: [String]?
    /// Places in `NvidiaDriver.gpus` whose device nodes are shown; nil shows all.
    package var indices: Set<Int>?

    /// - Throws: `gpu-not-granted`, `gpu-unknown`.
    package init(_ request: GPURequest, granted: GPUGrant, gpus: [NvidiaDriver.GPU]) throws(Diagnostic) {
        let limit: [String]
        switch granted {
        case .unlimited: limit = gpus.indices.map(String.init)
        case .only(let list): limit = list
        }
        switch request {
        case .container, .all:
            guard granted != .unlimited else { return }
            guard !limit.isEmpty else { throw Self.nothingGranted }
            visible = limit
        case .count(let count):
            guard count <= limit.count else {
                if granted != .unlimited { throw Self.notGranted("\(count) GPUs", limit) }
                throw Diagnostic(
                    DiagnosticCode("gpu-unknown"), "--gpus \(count)",
                    reasons: ["this host has \(gpus.count) GPU\(gpus.count == 1 ? "" : "s")"],
                    remedies: ["--gpus all"])
            }
            visible = Array(limit.prefix(count))
        case .devices(let ids):
            for id in ids {
                try Self.check(id, gpus)
                if granted != .unlimited,
                    !limit.contains(where: { Self.isSame($0, id, gpus) || Self.holds($0, id, gpus) })
                {
                    throw Self.notGranted("GPU \(id)", limit)
                }
            }
            visible = ids
        }
        let chosen = (visible ?? []).map { Self.index(of: $0, gpus) }
        // A MIG UUID does not say on which GPU it lies: then all nodes are shown, and CUDA filters.
        indices = chosen.contains(nil) ? nil : Set(chosen.compactMap { $0 })
    }

    /// The place of the GPU that `id` names or lies on; nil for a MIG UUID.
    private static func index(of id: String, _ gpus: [NvidiaDriver.GPU]) -> Int? {
        if id.hasPrefix("MIG-") {
            // The older spelling: MIG-GPU-<uuid>/<gpu instance>/<compute instance>
            guard id.hasPrefix("MIG-GPU-") else { return nil }
            let gpu = id.dropFirst(4).prefix { $0 != "/" }
            return gpus.firstIndex { $0.uuid == String(gpu) }
        }
        if id.hasPrefix("GPU-") { return gpus.firstIndex { $0.uuid?.hasPrefix(id) == true } }
        return id.split(separator: ":").first.flatMap { Int($0) }
    }

    private static func isSame(_ a: String, _ b: String, _ gpus: [NvidiaDriver.GPU]) -> Bool {
        if a == b { return true }
        if a.hasPrefix("MIG-") || b.hasPrefix("MIG-") || a.contains(":") || b.contains(":") { return false }
        guard let first = index(of: a, gpus), let second = index(of: b, gpus) else { return false }
        return first == second
    }

    /// A whole GPU was granted, and `id` is a part of it.
    private static func holds(_ granted: String, _ id: String, _ gpus: [NvidiaDriver.GPU]) -> Bool {
        guard !granted.hasPrefix("MIG-"), !granted.contains(":"), id.hasPrefix("MIG-") || id.contains(":") else {
            return false
        }
        guard let gpu = index(of: id, gpus) else { return false }
        return gpu == index(of: granted, gpus)
    }

    private static func check(_ id: String, _ gpus: [NvidiaDriver.GPU]) throws(Diagnostic) {
        if id.hasPrefix("MIG-"), !id.hasPrefix("MIG-GPU-") { return }
        if let index = index(of: id, gpus), gpus.indices.contains(index) { return }
        let known = gpus.enumerated().map { index, gpu in
            "\(index)" + (gpu.uuid.map { " (\($0))" } ?? "")
        }
        throw Diagnostic(
            DiagnosticCode("gpu-unknown"), "--gpus \(id)",
            reasons: ["no such GPU; this host has " + (known.isEmpty ? "none" : known.joined(separator: ", "))],
            remedies: ["--gpus all"])
    }

    private static var nothingGranted: Diagnostic {
        Diagnostic(
            DiagnosticCode("gpu-not-granted"), "--gpus",
            reasons: ["CUDA_VISIBLE_DEVICES grants this process no GPU"],
            remedies: ["ask the batch system for them: srun --gpus=1 …", "unset CUDA_VISIBLE_DEVICES outside a job"])
    }

    private static func notGranted(_ what: String, _ granted: [String]) -> Diagnostic {
        granted.isEmpty
            ? nothingGranted
            : Diagnostic(
                DiagnosticCode("gpu-not-granted"), "--gpus",
                reasons: [
                    "\(what) asked for, and CUDA_VISIBLE_DEVICES grants \(granted.joined(separator: ","))"
                ],
                remedies: ["--gpus all takes what was granted", "ask the batch system for more: srun --gpus=N …"])
    }
}
