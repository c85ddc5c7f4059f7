import CLinux
import Glibc
import LaunchPlan
import LinuxSystem

/// What the command line asks of one container, on top of its plan.
struct LaunchRequest {
    /// Not `[]`, which is generic (see `LaunchPlan.Options`).
    var options = LaunchPlan.Options(rawValue: 0)
    /// `SRC[:DST[:ro]]`, NULL-terminated.
    var binds: CStringVector
    /// `K=V` or `K`, NULL-terminated.
    var environment: CStringVector
    var workingDirectory: CString?
    var entrypoint: CString?

    init(capacity: Int) {
        binds = CStringVector.allocate(capacity: capacity + 1)
        environment = CStringVector.allocate(capacity: capacity + 1)
        binds[0] = nil
        environment[0] = nil
    }
}

/// The facts of an encoded plan that the launch asks for by name.
struct PlanFacts {
    var workingDirectory: CString?
    var user: CString?
    var userID: UInt32?
    var groupID: UInt32?
    /// The single file that holds the image.
    var imageFile: CString?
    var preparedForUID: UInt32?
    var options = LaunchPlan.Options(rawValue: 0)
    /// At most; a plan's bind may hold several.
    var mountCount = 0
    var overlay: CString?
    var unshare: UInt32 = 0
    var hostName: CString?
    var uidMap: CString?
    var gidMap: CString?
    var keptDescriptors: UInt32?
    var timeout: UInt32?
    var grace: UInt32?
    var stopSignalNumber: UInt32?
    var skippedIDs: UInt32 = 0
    var imageName: CString?
    var entrypointCount = 0
    var commandCount = 0
    var hasLimits = false

    init(_ plan: LaunchPlanReader) {
        plan.forEach { record in
            switch record.tag {
            case .workingDirectory: workingDirectory = record.cString
            case .user: user = record.cString
            case .userID: userID = record.number
            case .groupID: groupID = record.number
            case .preparedForUID: preparedForUID = record.number
            case .imageFile: imageFile = record.cString
            case .options: options = LaunchPlan.Options(rawValue: record.number)
            case .mountDestination, .fileDestination: mountCount += 1
            case .bind: mountCount += BindText.bound(record.cString)
            case .overlay: overlay = record.cString
            case .unshare: unshare = record.number
            case .hostName: hostName = record.cString
            case .uidMap: uidMap = record.cString
            case .gidMap: gidMap = record.cString
            case .keptDescriptors: keptDescriptors = record.number
            case .timeout: timeout = record.number
            case .grace: grace = record.number
            case .stopSignalNumber: stopSignalNumber = record.number
            case .skippedIDs: skippedIDs = record.number
            case .imageName: imageName = record.cString
            case .entrypoint: entrypointCount += 1
            case .command: commandCount += 1
            case .limit, .resourceLimit, .sharedMemory: hasLimits = true
            default: break
            }
        }
    }
}

/// Everything between the plan and the application's first instruction but the execve(2).
struct ContainerEntry {
    let plan: LaunchPlanReader
    let facts: PlanFacts
    let request: LaunchRequest
    var store: CString
    /// Of a single-file image.
    var imageRoot: ImageRoot?
    /// The caller's environment: HOME is read here.
    let host: UnsafePointer<UnsafeMutablePointer<CChar>?>
    /// The image as it was typed; nil: by the plan's own name.
    var typedImage: CString?
    /// Decided before anything else; nil when the plan limits nothing.
    var limits: ContainerLimits?

    var options: LaunchPlan.Options { facts.options.union(request.options) }

    /// Does every step; returns inside the container, without privileges, in its start directory.
    /// - Parameter onNamespaces: see `enterContainer`.
    mutating func enter(onNamespaces: () -> Int32 = { 0 }) throws(LaunchFailure) {
        closeDescriptors()
        var limits = self.limits
        let identity = Identity()
        let directory = isIsolated ? nil : currentDirectory()
        let orders = hasProcessNamespace ? keeperOrders : nil
        let terminal = orders.map { CallerTerminal(isGuarded: $0.ownsTerminal && $0.passesInput) }
        var keeper: Int32?
        if let group = limits?.group, let orders, let terminal {
            keeper = try ContainerInit.standOutside(orders, terminal, group)
        }
        var mounts = try MountList(self, identity: identity, directory: directory)
        try mounts.openImages(host)
        if try !joinHolder(identity) { try makeNamespaces(identity) }
        try furnishNamespaces()
        let code = onNamespaces()
        guard code == 0 else { throw LaunchFailure(.createNamespaces, "network", errno: code) }
        var first: ContainerInit?
        if let keeper, let orders {
            first = try ContainerInit.enterProcessNamespace(orders, below: keeper)
        } else if let orders, let terminal {
            first = try ContainerInit.enterProcessNamespace(orders, terminal)
        }
        try mounts.openSources()
        limits?.openViews()
        try placeImage()
        let needsUpper =
            options.contains(.writable) || facts.overlay != nil || mounts.needsUpperLayer
            || (request.workingDirectory ?? facts.workingDirectory).map { !isInLayers($0, mounts) } ?? false
        let root = ContainerRoot(hasUpperLayer: needsUpper, overlay: facts.overlay)
        let isStaged = try mounts.stageFiles { index in mounts.mustStage(index) }
        // A single-file image's root lies there, too: bound with what covers it, it would be covered for good.
        if isStaged, imageRoot != nil { linux_umount2(c("/sys"), MountTree.detach) }
        if needsUpper, let imageRoot { store = try imageRoot.putOwn() }
        try root.mountAndEnter(plan: plan, store: store, mounts: mounts)
        try root.pivot()
        try mounts.attachAll(hasUpperLayer: needsUpper)
        try limits?.showInside()
        try enterStartDirectory(directory, makesMissing: needsUpper, mounts)
        try mask(identity)
        if needsUpper, !options.contains(.writable), facts.overlay == nil { try root.seal() }
        try dropPrivileges(keeping: keptCapabilities, filters: filtersCalls)
        try first?.startApplication()
        try limits?.setResourceLimits()
    }

    /// User and mount namespaces of our own and those that the plan asks for, the caller mapped into them.
    func makeNamespaces(_ identity: Identity) throws(LaunchFailure) {
        // Who has closed itself to others (`dropPrivileges`, `ContainerNamespaces.enter`) may not write its own
        // maps. Nobody in a container can look in meanwhile: this process has every capability over its user
        // namespace, and they have none (ptrace(2), access mode checking).
        _ = linux_prctl(ProcessControl.setDumpable, 1, 0, 0, 0)
        if let uidMap = facts.uidMap, let gidMap = facts.gidMap {
            let helper = try IdentityHelper(uidMap, gidMap)
            try identity.createNamespaces(namespaces)
            try helper.map()
        } else {
            try identity.createNamespaces(namespaces)
            let shown = try shownIdentity(identity)
            try identity.map(toUID: shown.uid, gid: shown.gid)
        }
    }

    var hasProcessNamespace: Bool { namespaces & CloneFlags.newPID != 0 }

    private var keeperOrders: KeeperOrders {
        let skipped = min(facts.skippedIDs, KeeperOrders.mostSkippedIDs)
        return KeeperOrders(
            timeout: facts.timeout, grace: facts.grace ?? 10_000,
            stopSignal: facts.stopSignalNumber.map { Int32(bitPattern: $0) } ?? SIGTERM,
            ownsTerminal: options.contains(.ownTerminal), passesInput: isatty(0) == 1,
            filters: filtersCalls, skippedIDs: skipped, image: typedImage ?? facts.imageName ?? c(""))
    }

    var filtersCalls: Bool { !options.contains(.withoutFilter) }

    /// With `--fakeroot`, those over the caller's own ids that package managers use.
    private var keptCapabilities: UInt64 { options.contains(.fakeRoot) ? Capabilities.packageManagement : 0 }

    /// The caller, or with `--user image` the image's USER: root when it names none, as docker has it.
    func shownIdentity(_ identity: Identity) throws(LaunchFailure) -> (uid: UInt32, gid: UInt32) {
        if options.contains(.fakeRoot) { return (0, 0) }
        guard options.contains(.imageUser) else { return (identity.callerUID, identity.callerGID) }
        guard let user = facts.user, user[0] != 0 else { return (0, 0) }
        guard let uid = facts.userID else {
            throw LaunchFailure(.parseCommandLine, user, detail: c("--user"), errno: EINVAL)
        }
        return (uid, facts.groupID ?? 0)
    }

    /// `-w`, else the image's WORKDIR (made when the image lacks it, as docker does), else
    /// the caller's directory if the container shows it, else `/`.
    func enterStartDirectory(_ callers: CString?, makesMissing: Bool, _ mounts: MountList) throws(LaunchFailure) {
        if let wanted = request.workingDirectory ?? facts.workingDirectory {
            let path = cleaned(wanted, in: c("/"))
            if makesMissing, access(path, F_OK) != 0 { try mounts.makeDirectory(path) }
            guard chdir(path) == 0 else { throw LaunchFailure(.enterDirectory, path) }
            return
        }
        if let callers, chdir(callers) == 0 { return }
        guard chdir(c("/")) == 0 else { throw LaunchFailure(.enterDirectory, "/") }
    }

    /// Whether the start directory needs no making: it is inside a mount, or some layer has it
    /// (walked without symbolic links; one on the way only costs an upper layer).
    private func isInLayers(_ wanted: CString, _ mounts: MountList) -> Bool {
        let path = cleaned(wanted, in: c("/"))
        if isEqual(path, "/") || mounts.covers(path) || mounts.enclosing(path, before: mounts.count) != nil {
            return true
        }
        let base = open(store, PathFlags.path | O_DIRECTORY | O_CLOEXEC)
        defer { if base >= 0 { close(base) } }
        var isFound = false
        var isDecided = false
        plan.forEach { record in
            guard !isDecided else { return }
            if record.tag == .mountPoint, isEqual(record.cString, path) { (isFound, isDecided) = (true, true) }
            guard record.tag == .layer else { return }
            let layer = openat(base, record.cString, PathFlags.path | O_DIRECTORY | O_CLOEXEC)
            guard layer >= 0 else { return }
            defer { close(layer) }
            let flags = UInt64(UInt32(bitPattern: PathFlags.path | O_DIRECTORY | O_CLOEXEC))
            let there = linux_openat2(
                layer, path + 1, flags, 0, ResolveFlags.beneath | ResolveFlags.noSymlinks)
            if there >= 0 {
                close(there)
                (isFound, isDecided) = (true, true)
            } else if errno != ENOENT {
                isDecided = true  // a whiteout, a file or a link is in the way
            }
        }
        return isFound
    }
}

/// The working directory, nil when it was removed or cannot be named.
func currentDirectory() -> CString? {
    let buffer = UnsafeMutablePointer<CChar>.allocate(capacity: 4096)
    return getcwd(buffer, 4096).map { CString($0) }
}
