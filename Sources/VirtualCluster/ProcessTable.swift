import Glibc
import LinuxSystem

/// Who is whose child among the processes this user sees (proc(5)).
struct ProcessTable {
    /// By pid.
    private(set) var parents: [pid_t: pid_t]

    init(parents: [pid_t: pid_t]) { self.parents = parents }

    static func current() -> ProcessTable {
        var parents: [pid_t: pid_t] = [:]
        for pid in pids() {
            guard let bytes = try? OwnedDescriptor.open("/proc/\(pid)/stat", O_RDONLY).readAll(limit: 65536),
                let end = bytes.lastIndex(of: UInt8(ascii: ")"))
            else { continue }
            let fields = bytes[(end + 1)...].split(separator: UInt8(ascii: " "))
            if fields.count > 1 { parents[pid] = pid_t(String(decoding: fields[1], as: UTF8.self)) }
        }
        return ProcessTable(parents: parents)
    }

    /// `roots` and all that descend from them.
    func below(_ roots: Set<pid_t>) -> Set<pid_t> {
        var inside = roots
        for pid in parents.keys {
            var path: [pid_t] = []
            var at = pid
            while !inside.contains(at), at > 1, path.count < 4096, let parent = parents[at] {
                path.append(at)
                at = parent
            }
            if inside.contains(at) { inside.formUnion(path) }
        }
        return inside
    }

    /// What was put into a node from outside (`cluster exec`) is nobody's child there, but in its network.
    static func inNetworks(of nodes: [pid_t]) -> Set<pid_t> {
        let networks = Set(nodes.compactMap(network))
        return Set(pids().filter { pid in network(pid).map(networks.contains) ?? false })
    }

    private static func network(_ pid: pid_t) -> String? {
        var name = [UInt8](repeating: 0, count: 64)
        let n = name.withUnsafeMutableBytes {
            readlink("/proc/\(pid)/ns/net", $0.baseAddress!.assumingMemoryBound(to: CChar.self), 64)
        }
        return n > 0 ? String(decoding: name[..<n], as: UTF8.self) : nil
    }

    static func pids() -> [pid_t] { ClusterRegistry.files(in: "/proc").compactMap { pid_t($0) } }
}

extension ProcessIdentity {
    /// Whether it lives in a pid namespace below this one, where its number is another (proc_pid_status(5), NSpid).
    var isSeenBelow: Bool {
        guard let boot = try? Self.currentBootID(), boot == bootID else { return false }
        return ProcessTable.pids().contains { outside in
            guard (try? ProcessIdentity(of: outside))?.startTicks == startTicks,
                let bytes = try? OwnedDescriptor.open("/proc/\(outside)/status", O_RDONLY).readAll(limit: 1 << 16)
            else { return false }
            let line = String(decoding: bytes, as: UTF8.self).split(separator: "\n").first { $0.hasPrefix("NSpid:") }
            return line?.split(whereSeparator: \.isWhitespace).dropFirst().contains { $0 == "\(pid)" } ?? false
        }
    }
}
