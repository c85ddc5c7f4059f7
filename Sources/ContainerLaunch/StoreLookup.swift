import Glibc
import LaunchPlan

/// Where the store is and which plan a typed name means, on C strings; the same rules as
/// `SiteConfiguration.Locations` and the store's own names (`plans/<name>`).
struct StoreLookup {
    /// The store looked in now.
    private(set) var root: CString
    /// What follows it in `TRIREME_STORE`; stores of a site, only read.
    private var rest: CString?

    /// `TRIREME_STORE`, else `$XDG_DATA_HOME/trireme/store`, else `~/.local/share/trireme/store`.
    init(environment: UnsafePointer<UnsafeMutablePointer<CChar>?>) {
        func value(_ name: StaticString) -> CString? {
            ContainerEnvironment.find(c(name), name.utf8CodeUnitCount, in: environment)
                .map { $0 + name.utf8CodeUnitCount + 1 }.flatMap { $0[0] == 0 ? nil : $0 }
        }
        if let stores = value("TRIREME_STORE"), let first = StoreLookup.first(of: stores) {
            root = first.path
            rest = first.rest
        } else if let data = value("XDG_DATA_HOME") {
            root = joined(data, "/trireme/store")
        } else {
            root = joined(value("HOME") ?? c("/"), "/.local/share/trireme/store")
        }
    }

    /// The first path of a list separated by colons, empty ones passed over, and what follows it.
    private static func first(of list: CString) -> (path: CString, rest: CString?)? {
        var start = list
        while start[0] == colon { start += 1 }
        guard start[0] != 0 else { return nil }
        guard let end = strchr(start, Int32(colon)) else { return (start, nil) }
        let length = UnsafePointer(end) - start
        var path = ByteBuffer(capacity: length + 1)
        for at in 0..<length { path.append(start[at]) }
        return (path.cString, UnsafePointer(end) + 1)
    }

    /// The plan that `image` names, in the first store that has one, which becomes `root`; nil as `planPath`.
    mutating func findPlan(_ image: CString) throws(LaunchFailure) -> UnsafeRawBufferPointer? {
        let own = root
        while true {
            guard let path = planPath(image) else { return nil }
            if let bytes = try planBytes(at: path) {
                if hasTypedDigest(bytes, image) { return bytes }
                // trireme-cli knows all names of the image that has it.
                root = own
                return nil
            }
            guard let list = rest, let next = StoreLookup.first(of: list) else { break }
            root = next.path
            rest = next.rest
        }
        root = own
        return nil
    }

    /// The file of the plan that `image` names, nil for what is not a name in the store
    /// (a file, a directory, a remote reference): that is `trireme-cli`'s to read.
    func planPath(_ image: CString) -> CString? {
        let first = image[0]
        if first == 0 || first == slash || first == 0x2E || strstr(image, c("://")) != nil { return nil }
        var name = image
        if hasPrefix(name, "docker.io/") { name += 10 }
        if hasPrefix(name, "library/"), strchr(name + 8, Int32(slash)) == nil { name += 8 }
        var path = ByteBuffer(capacity: strlen(root) + strlen(name) + 64)
        path.append(root)
        path.append("/plans/")
        var hasTag = false
        var at = 0
        while name[at] != 0, name[at] != atSign {
            if name[at] == slash {
                path.append("%2F")
                hasTag = false
            } else {
                if name[at] == colon { hasTag = true }
                path.append(name[at])
            }
            at += 1
        }
        if !hasTag { path.append(":latest") }
        return path.cString
    }

    /// Whether the plan is of the image that the digest of `NAME@sha256:HEX` means; true where none was typed.
    private func hasTypedDigest(_ bytes: UnsafeRawBufferPointer, _ image: CString) -> Bool {
        guard let pin = strchr(image, Int32(atSign)) else { return true }
        // One that is damaged is told of by whoever reads it next.
        guard let plan = try? LaunchPlanReader(validating: bytes) else { return true }
        var isSame = false
        plan.forEach { if $0.tag == .imageDigest, isEqual($0.cString, CString(pin) + 1) { isSame = true } }
        return isSame
    }
}

private let atSign = CChar(0x40)

/// The bytes of a plan file, nil when there is none of that name.
func planBytes(at path: CString) throws(LaunchFailure) -> UnsafeRawBufferPointer? {
    let file = open(path, O_RDONLY | O_CLOEXEC)
    if file < 0 {
        if errno == ENOENT || errno == ENOTDIR || errno == ENAMETOOLONG { return nil }
        throw LaunchFailure(.readPlan, path)
    }
    defer { close(file) }
    return try planBytes(from: file, path)
}

/// Reads a plan whole. Not mapped: a plan is a few KiB, and a mapping costs more than its copy.
func planBytes(from file: Int32, _ name: CString) throws(LaunchFailure) -> UnsafeRawBufferPointer {
    var status = stat()
    guard fstat(file, &status) == 0 else { throw LaunchFailure(.readPlan, name) }
    guard status.st_size <= LaunchPlanLimit.totalBytes else { throw LaunchFailure(.readPlan, name, errno: EFBIG) }
    let size = Int(status.st_size)
    let buffer = UnsafeMutableRawBufferPointer.allocate(byteCount: size + 1, alignment: 8)
    var done = 0
    while done < size {
        let n = pread(file, buffer.baseAddress! + done, size - done, off_t(done))
        if n < 0, errno == EINTR { continue }
        if n < 0 { throw LaunchFailure(.readPlan, name) }
        if n == 0 { break }
        done += n
    }
    return UnsafeRawBufferPointer(rebasing: buffer[..<done])
}
