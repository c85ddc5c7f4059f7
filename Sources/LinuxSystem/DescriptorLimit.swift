import Glibc

/// This process's limit of open files (RLIMIT_NOFILE, getrlimit(2)).
///
/// Ours is raised to what is allowed: a leader has a connection for each node, an agent pipes for each rank.
/// What they start gets the caller's own limit back: programs that use select(2), or that close every
/// descriptor there could be, are made for it.
package enum DescriptorLimit {
    nonisolated(unsafe) private static var callers: rlimit?

    package static func raise() {
        var limit = rlimit()
        guard getrlimit(resource, &limit) == 0, limit.rlim_cur < limit.rlim_max else { return }
        callers = limit
        limit.rlim_cur = limit.rlim_max
        if setrlimit(resource, &limit) != 0 { callers = nil }
    }

    /// In a child, before execve(2).
    package static func restore() {
        if var limit = callers { setrlimit(resource, &limit) }
    }

    /// How many files may be open.
    package static var count: Int {
        var limit = rlimit()
        guard getrlimit(resource, &limit) == 0 else { return 1024 }
        return Int(clamping: limit.rlim_cur)
    }

    /// How many more may be opened, as far as this process's own limit goes.
    package static var free: Int {
        guard let directory = opendir("/proc/self/fd") else { return 0 }
        defer { closedir(directory) }
        var open = 0
        // Besides descriptors "." and "..", and the directory itself while it is read.
        while readdir(directory) != nil { open += 1 }
        return max(0, count - max(0, open - 3))
    }

    private static var resource: __rlimit_resource_t { __rlimit_resource_t(7 /* RLIMIT_NOFILE */) }
}
