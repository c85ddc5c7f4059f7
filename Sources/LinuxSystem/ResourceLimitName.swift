/// The names of the limits of processes, as docker and limits.conf(5) spell them.
package enum ResourceLimitName {
    /// asm-generic/resource.h; getrlimit(2).
    private static let names = [
        "cpu", "fsize", "data", "stack", "core", "rss", "nproc", "nofile", "memlock", "as", "locks", "sigpending",
        "msgqueue", "nice", "rtprio", "rttime",
    ]

    package static var all: [String] { names }
    package static func number(of name: String) -> UInt32? { names.firstIndex(of: name).map { UInt32($0) } }
    package static func name(of number: UInt32) -> String? {
        names.indices.contains(Int(number)) ? names[Int(number)] : nil
    }
}
