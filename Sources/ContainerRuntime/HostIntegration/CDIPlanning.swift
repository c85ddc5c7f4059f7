import Diagnostics
import LaunchPlan

/// Devices by the vendors' CDI specifications in `/etc/cdi` and `/var/run/cdi`.
package struct CDIPlanning {
    /// Later ones win (SPEC.md, "CDI registry").
    package static let directories = ["/etc/cdi", "/var/run/cdi"]

    private let host: HostLibraries
    private let image: ImageLibraries

    package init(host: HostLibraries, image: ImageLibraries) {
        self.host = host
        self.image = image
    }

    /// `nvidia.com/gpu=0`: a name of this form is CDI's, never a path.
    package static func isName(_ text: String) -> Bool {
        guard !text.hasPrefix("/"), let equals = text.firstIndex(of: "="), let slash = text.firstIndex(of: "/") else {
            return false
        }
        return slash < equals
    }

    /// Every specification file of the host with what it says, or why it cannot be read.
    package static func specifications(
        _ root: HostRoot
    ) -> [(path: String, content: Result<CDISpecification, CDISpecification.Failure>)] {
        directories.flatMap { directory in
            root.names(in: directory).filter { name in
                [".json", ".yaml", ".yml"].contains { name.hasSuffix($0) }
            }.map { name in
                let path = "\(directory)/\(name)"
                return (path, read(path, root))
            }
        }
    }

    private static func read(
        _ path: String, _ root: HostRoot
    ) -> Result<CDISpecification, CDISpecification.Failure> {
        guard let bytes = root.bytes(of: path, limit: 16 << 20) else {
            return .failure(CDISpecification.Failure(reason: "cannot be read"))
        }
        let value = Result { () throws(YAMLValue.Failure) in try YAMLValue(bytes) }
            .mapError { CDISpecification.Failure(reason: $0.reason) }
        return Result { () throws(CDISpecification.Failure) in try CDISpecification(value.get()) }
    }

    /// Adds the devices called `names` (`vendor.com/class=name`).
    ///
    /// - Throws: `cdi-unknown`, `cdi-invalid`, `gpu-libraries`.
    package func add(_ names: [String], to plan: inout DevicePlan) throws(Diagnostic) {
        let found = Self.specifications(host.root)
        var done: Set<String> = []
        for name in names {
            let equals = name.firstIndex(of: "=") ?? name.endIndex
            let kind = String(name[..<equals])
            let device = String(name[equals...].dropFirst())
            var match: (path: String, specification: CDISpecification)?
            for (path, content) in found {
                guard case .success(let specification) = content, specification.kind == kind,
                    specification.devices[device] != nil
                else { continue }
                if let other = match, directory(other.path) == directory(path) {
                    throw Diagnostic(
                        DiagnosticCode("cdi-invalid"), name, reasons: ["defined in \(other.path) and in \(path)"],
                        remedies: ["remove one of the two"])
                }
                match = (path, specification)
            }
            guard let match else { throw unknown(name, kind, found) }
            if done.insert(match.path).inserted {
                try add(match.specification.edits, name, match.path, to: &plan)
            }
            try add(match.specification.devices[device] ?? .init(), name, match.path, to: &plan)
        }
    }

    private func directory(_ path: String) -> Substring { path[..<(path.lastIndex(of: "/") ?? path.startIndex)] }

    private func unknown(
        _ name: String, _ kind: String,
        _ found: [(path: String, content: Result<CDISpecification, CDISpecification.Failure>)]
    ) -> Diagnostic {
        var known: [String] = []
        var unreadable: [String] = []
        for (path, content) in found {
            switch content {
            case .success(let specification):
                known += specification.devices.keys.sorted().map { "\(specification.kind)=\($0)" }
            case .failure(let failure): unreadable.append("\(path) cannot be used: \(failure.reason)")
            }
        }
        let places = Self.directories.map(host.root.outside).joined(separator: ", ")
        return Diagnostic(
            DiagnosticCode(unreadable.isEmpty ? "cdi-unknown" : "cdi-invalid"), name,
            reasons: (found.isEmpty ? ["no specification in \(places)"] : ["no specification in \(places) defines it"])
                + unreadable,
            remedies: known.isEmpty
                ? ["as administrator: nvidia-ctk cdi generate --output=/etc/cdi/nvidia.yaml"]
                : ["defined are: " + known.prefix(12).joined(separator: ", ")])
    }

    private func add(
        _ edits: CDISpecification.Edits, _ name: String, _ path: String, to plan: inout DevicePlan
    ) throws(Diagnostic) {
        func refused(_ reason: String) -> Diagnostic {
            Diagnostic(
                DiagnosticCode("cdi-invalid"), name, reasons: ["\(path): \(reason)"],
                remedies: ["--gpus all finds the driver without a specification", "--device PATH shows one node"])
        }
        if let other = edits.others.first { throw refused("'\(other)' is not done by trireme") }
        for node in edits.nodes {
            plan.show(node.hostPath, at: node.path, readOnly: !node.permissions.contains("w"))
        }
        for entry in edits.environment {
            let equals = entry.firstIndex(of: "=") ?? entry.endIndex
            plan.variables.append((String(entry[..<equals]), String(entry[equals...].dropFirst())))
        }
        for mount in edits.mounts { try add(mount, refused, to: &plan) }
        for hook in edits.hooks { try perform(hook, edits.mounts, refused, to: &plan) }
    }

    private func add(
        _ mount: CDISpecification.Mount, _ refused: (String) -> Diagnostic, to plan: inout DevicePlan
    ) throws(Diagnostic) {
        if mount.isTemporary {
            plan.mounts.append(.init(source: "", destination: mount.containerPath, isTemporary: true))
            return
        }
        guard let real = host.root.realPath(mount.hostPath) else {
            throw refused("\(host.root.outside(mount.hostPath)) does not exist on this host")
        }
        let name = String(mount.hostPath.split(separator: "/").last ?? "")
        // A library goes where the specification says, and by its soname to the directory in front of the
        // loader's search: that is what the specification's hook runs ldconfig for.
        if name.contains(".so"), let facts = host.root.elf(real) {
            let library = HostLibrary(name: name, path: real, facts: facts)
            guard plan.libraries.add(library) else {
                let reason = plan.libraries.refused.last?.reason ?? ""
                if NvidiaDriver.isEssential(name) {
                    throw Diagnostic(
                        DiagnosticCode("gpu-libraries"), name, reasons: ["cannot be loaded in this image", reason],
                        remedies: ["use an image with a newer C library"])
                }
                plan.notes.append("\(name) is left out: \(reason)")
                return
            }
        }
        let isReadOnly = mount.options.contains("ro")
        plan.show(real, at: mount.containerPath, readOnly: isReadOnly)
    }

    /// Hooks are programs run as root by other runtimes. Those of NVIDIA's toolkit do what is done here
    /// by other means; any other cannot be known to be harmless, and is refused.
    private func perform(
        _ hook: CDISpecification.Hook, _ mounts: [CDISpecification.Mount], _ refused: (String) -> Diagnostic,
        to plan: inout DevicePlan
    ) throws(Diagnostic) {
        let program = hook.path.split(separator: "/").last.map(String.init) ?? ""
        var words = hook.arguments[...]
        if !words.isEmpty { words.removeFirst() }
        if program == "nvidia-ctk", words.first == "hook" { words.removeFirst() }
        guard ["nvidia-ctk", "nvidia-cdi-hook"].contains(program), let action = words.first else {
            throw refused("hook '\(hook.name)' runs \(hook.path), which trireme does not know")
        }
        switch action {
        // Done by LD_LIBRARY_PATH; modes of device nodes are the host's; the image's own compatibility
        // libraries stay where they are.
        case "update-ldcache", "chmod", "enable-cuda-compat", "disable-device-node-modification": return
        case "create-symlinks":
            for (word, value) in zip(words, words.dropFirst()) where word == "--link" { link(value, mounts, to: &plan) }
        default: throw refused("hook '\(hook.name)' does '\(action)', which trireme does not know")
        }
    }

    /// `TARGET::LINK`, TARGET relative to the link's directory: the target's file is shown at the link.
    private func link(_ value: String, _ mounts: [CDISpecification.Mount], to plan: inout DevicePlan) {
        guard let mark = value.firstRange(of: "::") else { return }
        let target = String(value[..<mark.lowerBound])
        let link = String(value[mark.upperBound...])
        guard link.hasPrefix("/"), let end = link.lastIndex(of: "/") else { return }
        let path = target.hasPrefix("/") ? target : "\(link[..<end])/\(target)"
        let name = String(link[link.index(after: end)...])
        let aim = String(path.split(separator: "/").last ?? "")
        if let inside = plan.libraries.files[aim] {
            plan.libraries.alias(name, of: inside)
        } else if let source = mounts.first(where: { $0.containerPath == path })?.hostPath {
            plan.show(source, at: link, readOnly: true)
        }
    }
}
