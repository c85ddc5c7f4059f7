import CLinux
import Glibc
import LaunchPlan
import LinuxSystem

/// The container's root: the image's layers stacked by overlayfs, or one layer bound.
///
/// It is mounted over the host's /sys: a directory that every Linux host has, that
/// holds no layer, and that this mount namespace will not look at again (its mounts
/// were copied by then). A mount point in the store would need one to exist there.
struct ContainerRoot {
    private static var place: CString { c("/sys") }
    /// mount(2) copies one page of options, its last byte a NUL.
    private static let optionBytes = 4095

    let hasUpperLayer: Bool
    /// A directory of the host that keeps the upper layer; without one it is a tmpfs.
    let overlay: CString?

    /// Mounts it and makes it the working directory. Relative layers are relative to `store`.
    ///
    /// mount(2) with relative lower directories is one call on every kernel; fsopen(2) would take
    /// one `lowerdir+` call per layer and Linux 6.5. When the names do not fit in a page they
    /// are given by descriptor, which is short whatever the layers are called.
    func mountAndEnter(plan: LaunchPlanReader, store: CString, mounts: MountList) throws(LaunchFailure) {
        var layerCount = 0
        var relative = false
        var first: CString?
        plan.forEach { record in
            guard record.tag == .layer else { return }
            if layerCount == 0 { first = record.cString }
            layerCount += 1
            if record.cString[0] != slash { relative = true }
        }
        guard let first else { throw LaunchFailure(.mountRoot, "the image has no layers", errno: EINVAL) }
        if relative, chdir(store) != 0 { throw LaunchFailure(.mountRoot, store) }
        if layerCount == 1, !hasUpperLayer {
            try bind(first)
        } else {
            try stack(plan, layerCount: layerCount, mounts)
        }
        guard chdir(Self.place) == 0 else { throw LaunchFailure(.mountRoot, Self.place) }
    }

    private func bind(_ layer: CString) throws(LaunchFailure) {
        guard linux_mount(layer, Self.place, nil, MountFlags.bind | MountFlags.recursive, nil) == 0 else {
            throw LaunchFailure(.mountRoot, layer)
        }
        let attributes = MountAttribute.readOnly | MountAttribute.noSetuid | MountAttribute.noDevices
        guard linux_mount_setattr(AT_FDCWD, Self.place, MountTree.recursive, attributes, 0, 0) == 0 else {
            throw LaunchFailure(.mountRoot, layer)
        }
    }

    private func stack(_ plan: LaunchPlanReader, layerCount: Int, _ mounts: MountList) throws(LaunchFailure) {
        var options = ByteBuffer(capacity: 4096)
        options.append("userxattr")
        var lock: Int32 = -1
        defer { if lock >= 0 { close(lock) } }
        if let overlay {
            lock = try prepareOverlay(overlay)
            options.append(",upperdir=")
            Self.append(escaped: overlay, to: &options)
            options.append("/upper,workdir=")
            Self.append(escaped: overlay, to: &options)
            options.append("/work")
        } else if hasUpperLayer {
            try makeUpperLayer()
            options.append(",upperdir=/sys/upper,workdir=/sys/work")
        }
        if hasUpperLayer {
            prepareUpper(overlay.map { joined($0, "/upper") } ?? c("/sys/upper"), plan, mounts)
        }
        options.append(",lowerdir=")
        let start = options.count
        var isFirst = true
        plan.forEach { record in
            guard record.tag == .layer else { return }
            if !isFirst { options.append(colon) }
            isFirst = false
            Self.append(escaped: record.cString, to: &options)
        }
        if options.count > Self.optionBytes {
            options.truncate(to: start)
            try appendByDescriptor(plan, to: &options)
        }
        let flags = MountFlags.noSetuid | MountFlags.noDevices | (hasUpperLayer ? 0 : MountFlags.readOnly)
        if let overlay, try mount(options, over: overlay, flags) { return }
        guard linux_mount(c("trireme"), Self.place, c("overlay"), flags, options.cString) == 0 else {
            let code = errno
            throw LaunchFailure(
                overlay == nil ? .mountRoot : .mountOverlay, try missingLayer(plan) ?? overlay ?? c("overlay"),
                errno: code)
        }
    }

    // MARK: An upper layer that stays

    /// Makes `upper` and `work` where they are missing and holds the directory until the mount is made.
    private func prepareOverlay(_ overlay: CString) throws(LaunchFailure) -> Int32 {
        let directory = open(overlay, O_RDONLY | O_DIRECTORY | O_CLOEXEC)
        guard directory >= 0 else { throw LaunchFailure(.mountOverlay, overlay, detail: c("open")) }
        // Only while mounting, so nobody waits long; a file system without locks must not stop it.
        while flock(directory, LOCK_EX) != 0, errno == EINTR {}
        for name in [c("upper"), c("work")] where mkdirat(directory, name, 0o755) != 0 && errno != EEXIST {
            let code = errno
            close(directory)
            throw LaunchFailure(.mountOverlay, overlay, detail: c("mkdir"), errno: code)
        }
        return directory
    }

    /// Mounts with the kernel's own word on whether another mount has this upper layer: only `index=on`
    /// makes it refuse (EBUSY), for as long as that other mount lives and not longer. False when the
    /// layers below are others than the first time, which `index=on` refuses too (ESTALE) and we do not.
    private func mount(_ options: ByteBuffer, over overlay: CString, _ flags: UInt) throws(LaunchFailure) -> Bool {
        var asking = ByteBuffer(capacity: options.count + 16)
        asking.append(options.bytes, count: options.count)
        asking.append(",index=on")
        if asking.count > Self.optionBytes { return false }
        if linux_mount(c("trireme"), Self.place, c("overlay"), flags, asking.cString) == 0 { return true }
        if errno == EBUSY { throw LaunchFailure(.mountOverlay, overlay) }
        return false
    }

    private func prepareUpper(_ path: CString, _ plan: LaunchPlanReader, _ mounts: MountList) {
        let directory = open(path, PathFlags.path | O_DIRECTORY | O_CLOEXEC)
        guard directory >= 0 else { return }
        defer { close(directory) }
        let layers = LayerStack(plan, base: AT_FDCWD)
        defer { layers.close() }
        UpperLayer(directory: directory, layers: layers).prepare(for: mounts)
    }

    private func makeUpperLayer() throws(LaunchFailure) {
        guard
            linux_mount(
                c("trireme"), Self.place, c("tmpfs"), MountFlags.noSetuid | MountFlags.noDevices, c("mode=0755")) == 0
        else { throw LaunchFailure(.mountRoot, "tmpfs") }
        let mask = umask(0o022)
        defer { umask(mask) }
        guard mkdir(c("/sys/upper"), 0o755) == 0, mkdir(c("/sys/work"), 0o755) == 0 else {
            throw LaunchFailure(.mountRoot, "tmpfs")
        }
    }

    private func appendByDescriptor(_ plan: LaunchPlanReader, to options: inout ByteBuffer) throws(LaunchFailure) {
        var failure: LaunchFailure?
        var isFirst = true
        plan.forEach { record in
            guard record.tag == .layer, failure == nil else { return }
            let descriptor = open(record.cString, PathFlags.path | O_CLOEXEC)
            guard descriptor >= 0 else {
                failure = LaunchFailure(.mountRoot, record.cString)
                return
            }
            if !isFirst { options.append(colon) }
            isFirst = false
            options.append("/proc/self/fd/")
            options.append(decimal: UInt64(descriptor))
        }
        if let failure { throw failure }
        if options.count > Self.optionBytes { throw LaunchFailure(.mountRoot, "too many layers", errno: E2BIG) }
    }

    /// overlayfs says ENOENT without a name; this finds it.
    private func missingLayer(_ plan: LaunchPlanReader) throws(LaunchFailure) -> CString? {
        var missing: CString?
        plan.forEach { record in
            if record.tag == .layer, missing == nil, access(record.cString, X_OK) != 0 { missing = record.cString }
        }
        return missing
    }

    /// `:` separates layers and `,` options; `\` quotes both (overlayfs.rst).
    private static func append(escaped path: CString, to options: inout ByteBuffer) {
        var at = 0
        while path[at] != 0 {
            let byte = path[at]
            if byte == colon || byte == 0x2C || byte == 0x5C { options.append(CChar(0x5C)) }
            options.append(byte)
            at += 1
        }
    }

    /// Leaves the host's root: the working directory becomes `/` and the old root goes.
    /// pivot_root(2), "pivot_root(".", ".")": the old root ends on top of the new one.
    func pivot() throws(LaunchFailure) {
        guard linux_pivot_root(c("."), c(".")) == 0 else { throw LaunchFailure(.enterRoot, "pivot_root") }
        guard linux_umount2(c("."), MountTree.detach) == 0 else { throw LaunchFailure(.enterRoot, "umount") }
    }

    /// Makes a root with an upper layer read-only once its mount points are made.
    func seal() throws(LaunchFailure) {
        guard linux_mount_setattr(AT_FDCWD, c("/"), 0, MountAttribute.readOnly, 0, 0) == 0 else {
            throw LaunchFailure(.sealRoot, "/")
        }
    }
}
