import CLinux
import Glibc
import LaunchPlan
import LinuxSystem

// For callers that live longer than one launch: a node's agent. `trireme` itself uses the
// parts behind these functions directly.

/// Makes the container of `plan` around this process and returns inside it: own user and mount
/// namespaces, the plan's root, mounts and files, no privileges, the start directory entered.
///
/// The process must have one thread. Descriptors stay open and other processes are not touched.
/// Not idempotent, and after a failure the process is half-way: end it.
///
/// - Parameters:
///   - plan: the encoded plan; its options are honoured, its command is not executed.
///   - store: the directory that relative layers are relative to.
///   - environment: the caller's environment, of which HOME is read.
///   - onControlGroup: called with the container's own control group, when its limits need one,
///     before this process enters it. Who outlives this process removes the group.
///   - onNamespaces: called in the new namespaces, with every capability over them and the host's files still
///     in sight; what it returns other than 0 is the errno that ends the launch.
package func enterContainer(
    plan bytes: UnsafeRawBufferPointer, store: String,
    environment: UnsafePointer<UnsafeMutablePointer<CChar>?> = UnsafePointer(linux_environ()),
    onControlGroup: (ControlGroup) -> Void = { _ in }, onNamespaces: () -> Int32 = { 0 }
) throws(LaunchFailure) {
    let plan: LaunchPlanReader
    do {
        plan = try LaunchPlanReader(validating: bytes)
    } catch {
        throw LaunchFailure(.readPlan, "plan", errno: EBADMSG)
    }
    var entry = ContainerEntry(
        plan: plan, facts: PlanFacts(plan), request: LaunchRequest(capacity: 0), store: cString(Array(store.utf8)),
        host: environment)
    if entry.facts.hasLimits {
        entry.limits = try ContainerLimits(plan, isRelaxed: entry.options.contains(.relaxedLimits))
        if let group = entry.limits?.group {
            onControlGroup(group)
            do throws(SyscallError) { try group.enter() } catch {
                throw LaunchFailure(.applyLimits, "cgroup.procs", errno: error.errno)
            }
        }
    }
    try entry.enter(onNamespaces: onNamespaces)
}

/// The environment of an application of `plan`, as the launcher composes it.
/// - Parameters:
///   - host: the caller's `K=V` entries.
///   - overrides: `K=V` (as `-e`), which win over the image's and the host's.
package func composedEnvironment(
    plan bytes: UnsafeRawBufferPointer, host: [[UInt8]], overrides: [[UInt8]]
) -> [[UInt8]] {
    // A plan that is none has no variables; entering it is where that is an error.
    let empty: [UInt64] = [0x3130_4E41_4C50_5254, 16]  // header of a plan without records
    return empty.withUnsafeBytes { none in
        let plan = (try? LaunchPlanReader(validating: bytes)) ?? (try? LaunchPlanReader(validating: none))
        guard let plan else { return host + overrides }
        var composed = ContainerEnvironment(
            image: plan, host: cStringVector(host), overrides: cStringVector(overrides),
            options: PlanFacts(plan).options)
        composed.forgetMissingDirectories()
        return (0..<composed.count).map { index in
            let entry = composed.entries[index]!
            return Array(UnsafeRawBufferPointer(start: entry, count: strlen(entry)))
        }
    }
}

/// One thing that a launch would show in the container's root, in the order in which it is attached.
package struct ShownMount: Sendable {
    package enum Kind: Sendable { case bind, temporary, stack, image, file, fileSystem, link }
    package var kind: Kind
    package var source: [UInt8]
    package var destination: [UInt8]
    package var isReadOnly: Bool
    package var isNotExecutable: Bool
    /// A source that is not there is left out.
    package var isOptional: Bool
    /// The command line or TRIREME_BIND asked for it.
    package var isUserRequest: Bool
}

/// The mounts of a launch, and whether its root needs a layer of its own for them. Nothing is mounted.
/// - Throws: what is wrong with a bind's words.
package func shownMounts(
    plan bytes: UnsafeRawBufferPointer, store: String
) throws(LaunchFailure) -> (mounts: [ShownMount], needsUpperLayer: Bool) {
    let plan: LaunchPlanReader
    do {
        plan = try LaunchPlanReader(validating: bytes)
    } catch {
        throw LaunchFailure(.readPlan, "plan", errno: EBADMSG)
    }
    let entry = ContainerEntry(
        plan: plan, facts: PlanFacts(plan), request: LaunchRequest(capacity: 0), store: cString(Array(store.utf8)),
        host: UnsafePointer(linux_environ()))
    let list = try MountList(entry, identity: Identity(), directory: currentDirectory())
    func copy(_ text: CString) -> [UInt8] { Array(UnsafeRawBufferPointer(start: text, count: strlen(text))) }
    let mounts = (0..<list.count).map { index in
        let request = list.requests[index]
        let kind: ShownMount.Kind =
            switch request.kind {
            case .bind: .bind
            case .temporary: .temporary
            case .stack: .stack
            case .image: .image
            case .file: .file
            case .fileSystem: .fileSystem
            case .link: .link
            }
        return ShownMount(
            kind: kind, source: copy(request.source), destination: copy(request.destination),
            isReadOnly: request.isReadOnly || request.kind == .stack || request.kind == .image,
            isNotExecutable: request.isNotExecutable,
            isOptional: request.isOptional, isUserRequest: request.origin == .user)
    }
    return (mounts, list.needsUpperLayer)
}

/// Becomes `arguments[0]`, found through PATH of `environment` as this process sees the file
/// system (so: call it inside the container). Returns only to say why it could not.
package func becomeCommand(_ arguments: [[UInt8]], environment: [[UInt8]]) -> LaunchFailure {
    guard !arguments.isEmpty else { return LaunchFailure(.findCommand, "no command", errno: EINVAL) }
    let command = CommandExecution(
        arguments: cStringVector(arguments), environment: ContainerEnvironment(composed: cStringVector(environment)))
    return command.become()
}

private func cString(_ bytes: [UInt8]) -> CString { bytes.withUnsafeBytes { copied($0) } }

private func cStringVector(_ strings: [[UInt8]]) -> CStringVector {
    let vector = CStringVector.allocate(capacity: strings.count + 1)
    for (index, string) in strings.enumerated() { vector[index] = UnsafeMutablePointer(mutating: cString(string)) }
    vector[strings.count] = nil
    return vector
}
