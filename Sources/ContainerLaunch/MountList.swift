import CLinux
import Glibc
import LaunchPlan
import LinuxSystem

/// One thing that will appear in the container's root.
struct MountRequest {
    enum Kind { case bind, temporary, stack, image, file, fileSystem, link }
    /// Who asked: decides what a missing source or destination means.
    enum Origin { case standard, plan, user }

    var kind = Kind.bind
    var origin = Origin.standard
    var source: CString
    /// A clean absolute path inside the container.
    var destination: CString
    var isReadOnly = false
    /// A source that does not exist is skipped.
    var isOptional = false
    var isNotExecutable = false
    /// What is mounted below the source stays out.
    var isWithoutSubmounts = false
    var content = UnsafeRawBufferPointer(start: nil, count: 0)
    /// The detached copy of the source's mounts, taken before the root changes; -1 before that.
    var tree: Int32 = -1
    var isDirectory = true
    /// The destination is one of the plan's ready mount points.
    var isReady = false
}

/// The mounts of one launch, in the order in which they are attached.
///
/// Sources are opened (`open_tree(2)`, a detached copy) while the host's root is
/// still the root; destinations are walked after pivot_root(2), when `/` is the
/// container's and no symbolic link can lead out of it. Two calls per mount
/// instead of one, and no path is ever resolved across the border.
struct MountList {
    private(set) var requests: UnsafeMutablePointer<MountRequest>
    private(set) var count = 0
    private let capacity: Int

    init(capacity: Int) {
        self.capacity = capacity
        requests = UnsafeMutablePointer<MountRequest>.allocate(capacity: capacity)
    }

    mutating func append(_ request: MountRequest) {
        precondition(count < capacity, "the list is sized for every mount of the command line and the plan")
        (requests + count).initialize(to: request)
        count += 1
    }

    /// Whether something will be mounted, or written, exactly at `destination`.
    func covers(_ destination: CString) -> Bool {
        for index in 0..<count where isEqual(requests[index].destination, destination) { return true }
        return false
    }

    /// The last request before `limit` whose destination holds `path` (strictly below it).
    func enclosing(_ path: CString, before limit: Int) -> Int? {
        var index = limit - 1
        while index >= 0 {
            let destination = requests[index].destination
            if isInside(path, destination), !isEqual(path, destination) { return index }
            index -= 1
        }
        return nil
    }

    /// Marks the destinations that are ready mount points of the image.
    func markReady(_ plan: LaunchPlanReader, hasAccounts: Bool) {
        plan.forEach { record in
            guard record.tag == .mountPoint else { return }
            for index in 0..<count where isEqual(requests[index].destination, record.cString) {
                requests[index].isReady = true
            }
        }
        guard hasAccounts else { return }
        for index in 0..<count {
            let destination = requests[index].destination
            if isEqual(destination, "/etc/passwd") || isEqual(destination, "/etc/group") {
                requests[index].isReady = true
            }
        }
    }

    /// Takes a detached copy of every source. Optional ones that are not there drop out of the list.
    mutating func openSources() throws(LaunchFailure) {
        var kept = 0
        for index in 0..<count {
            var request = requests[index]
            switch request.kind {
            case .bind: if try !request.openBind() { continue }
            case .temporary: try request.openTemporary()
            case .stack: try request.openStack()
            case .fileSystem: try request.openFileSystem()
            case .file, .link, .image: break
            }
            requests[kept] = request
            kept += 1
        }
        count = kept
    }

    /// Puts the requests from `start` on in the order of their destinations' depth, so that a bind below
    /// another appears whatever order they were typed in. Of two at one place the later stays on top.
    func orderByDepth(from start: Int) {
        var next = start + 1
        while next < count {
            let request = requests[next]
            let depth = request.depth
            var place = next
            while place > start, requests[place - 1].depth > depth {
                requests[place] = requests[place - 1]
                place -= 1
            }
            requests[place] = request
            next += 1
        }
    }

    /// Whether the root needs an upper layer to make missing mount points in.
    /// What lies inside another mount is that mount's business.
    var needsUpperLayer: Bool {
        for index in 0..<count where !requests[index].isReady {
            if enclosing(requests[index].destination, before: index) == nil { return true }
        }
        return false
    }
}
