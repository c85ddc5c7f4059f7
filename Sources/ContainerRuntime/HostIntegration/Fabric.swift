import ImageFormats

/// Fast networks of a host, told by the device nodes of their drivers.
package struct Fabric: Equatable, Sendable {
    package enum Kind: String, CaseIterable, Sendable {
        /// InfiniBand, RoCE, iWARP, EFA.
        case verbs
        /// Omni-Path.
        case opa
        /// Slingshot.
        case cxi
        /// Aries and Gemini.
        case ugni
        /// Copies between the ranks of a node, by kernel modules.
        case sharedMemory = "shared memory"
    }
    package var kind: Kind
    package var nodes: [String]
    /// Names of adapters: `mlx5_0`.
    package var adapters: [String]

    package init(kind: Kind, nodes: [String], adapters: [String]) {
        self.kind = kind
        self.nodes = nodes
        self.adapters = adapters
    }

    /// What this host has.
    package static func detect(_ root: HostRoot) -> [Fabric] {
        let names = root.names(in: "/dev")
        func nodes(_ stems: [String]) -> [String] {
            names.filter { name in stems.contains { name.hasPrefix($0) } }.map { "/dev/\($0)" }
        }
        var found: [Fabric] = []
        if root.names(in: "/dev/infiniband").contains(where: { $0.hasPrefix("uverbs") }) {
            found.append(
                Fabric(kind: .verbs, nodes: ["/dev/infiniband"], adapters: root.names(in: "/sys/class/infiniband")))
        }
        let others: [(Kind, [String])] = [
            (.opa, ["hfi1_", "ipath"]), (.cxi, ["cxi"]), (.ugni, ["kgni", "kdreg"]),
            (.sharedMemory, ["xpmem", "knem"]),
        ]
        for (kind, stems) in others {
            let nodes = nodes(stems)
            if !nodes.isEmpty {
                found.append(Fabric(kind: kind, nodes: nodes, adapters: nodes.map { String($0.dropFirst(5)) }))
            }
        }
        return found
    }
}

/// Gives a container the host's fast networks: their nodes, and the user-space drivers its image lacks.
package struct FabricPlanning {
    private let host: HostLibraries
    private let image: ImageLibraries

    package init(host: HostLibraries, image: ImageLibraries) {
        self.host = host
        self.image = image
    }

    /// Adds every fabric of the host, and a note of what was chosen.
    package func add(to plan: inout DevicePlan) -> [Fabric] {
        let fabrics = Fabric.detect(host.root)
        for fabric in fabrics {
            for node in fabric.nodes { plan.show(node) }
            switch fabric.kind {
            case .verbs: addVerbs(fabric, to: &plan)
            case .opa: addLibraries(Self.libraries(of: .opa), neededBy: "Omni-Path", to: &plan)
            case .cxi: addLibraries(Self.libraries(of: .cxi), neededBy: "Slingshot", to: &plan)
            case .ugni, .sharedMemory: break
            }
            let adapters = fabric.adapters.isEmpty ? "" : " (\(fabric.adapters.joined(separator: ", ")))"
            plan.notes.append("fabric: \(fabric.kind.rawValue)\(adapters)")
        }
        return fabrics
    }

    /// The user-space drivers without which a fabric of this kind is of no use.
    package static func libraries(of kind: Fabric.Kind) -> [String] {
        switch kind {
        case .verbs: ["libibverbs.so.1"]
        case .opa: ["libpsm2.so.2"]
        case .cxi: ["libcxi.so.1", "libfabric.so.1"]
        case .ugni, .sharedMemory: []
        }
    }

    /// Kernel drivers and the names of their libibverbs providers, where they differ by more than `_ib`.
    private static let providers = [
        "mlx5_core": "mlx5", "mlx4_core": "mlx4", "bnxt_en": "bnxt_re", "ice": "irdma", "i40e": "irdma",
        "hns3": "hns", "qede": "qedr", "iw_cxgb4": "cxgb4", "hfi1": "hfi1verbs",
    ]

    /// libibverbs and its providers belong together (their interface is private and numbered), so the image's
    /// are used when they can drive the adapter, and else the host's take the place of all of them.
    private func addVerbs(_ fabric: Fabric, to plan: inout DevicePlan) {
        let wanted = Set(drivers)
        let own = Set(
            image.tree.names(in: "/etc/libibverbs.d").compactMap { name in
                name.hasSuffix(".driver") ? String(name.dropLast(7)) : nil
            })
        if image.facts("libibverbs.so.1") != nil, !wanted.isEmpty ? wanted.isSubset(of: own) : !own.isEmpty { return }
        guard let verbs = host.library("libibverbs.so.1") else {
            plan.notes.append(
                "neither the image nor the host has libibverbs.so.1 for \(fabric.adapters.joined(separator: ", "))")
            return
        }
        if let reason = image.objection(to: verbs.facts) {
            plan.notes.append("libibverbs.so.1 of the host is left out: \(reason)")
            return
        }
        for name in [
            "libibverbs.so.1", "librdmacm.so.1", "libibumad.so.3", "libmlx5.so.1", "libmlx4.so.1", "libefa.so.1",
        ] {
            if let library = host.library(name) {
                plan.libraries.addWithNeeds(library) { $0.hasPrefix("libibverbs.so") || $0.hasPrefix("librdmacm.so") }
            }
        }
        for path in ["/etc/libibverbs.d", "\(verbs.directory)/libibverbs", "/usr/lib64/libibverbs"]
        where host.root.isDirectory(path) {
            plan.show(path, readOnly: true)
        }
    }

    /// Providers of this host's adapters, by the kernel drivers behind them.
    private var drivers: [String] {
        let directory = "/sys/class/infiniband_verbs"
        return host.root.names(in: directory).compactMap { name in
            guard let driver = host.root.realPath("\(directory)/\(name)/device/driver") else { return nil }
            let last = String(driver[driver.index(after: driver.lastIndex(of: "/")!)...])
            return Self.providers[last] ?? last
        }
    }

    private func addLibraries(_ names: [String], neededBy fabric: String, to plan: inout DevicePlan) {
        for name in names {
            guard let library = host.library(name) else {
                if image.facts(name) == nil {
                    plan.notes.append("\(fabric): neither the image nor the host has \(name)")
                }
                continue
            }
            // libfabric's provider for Slingshot is the vendor's; a distribution's libfabric lacks it.
            plan.libraries.addWithNeeds(library) { names.contains($0) }
        }
    }
}
