import Diagnostics
import Glibc

/// `--device PATH[:DST[:rwm]]`, docker's spelling.
package struct DeviceNode: Equatable, Sendable {
    package var source: String
    package var destination: String
    package var isReadOnly: Bool

    /// - Throws: `option-value`, `device-missing`.
    package init(_ typed: String, root: HostRoot, checksHost: Bool) throws(Diagnostic) {
        let parts = typed.split(separator: ":", omittingEmptySubsequences: false).map(String.init)
        func refused(_ reason: String) -> Diagnostic {
            Diagnostic(
                DiagnosticCode("option-value"), "--device \(typed)", reasons: [reason],
                remedies: ["--device /dev/NAME[:/dev/NAME][:rwm]", "--device vendor.com/class=NAME (CDI)"])
        }
        guard (1...3).contains(parts.count), parts.allSatisfy({ !$0.isEmpty }), parts[0].hasPrefix("/") else {
            throw refused("not PATH[:DST[:rwm]]")
        }
        var permissions = "rwm"
        var place = parts[0]
        // docker also takes PATH:rwm.
        if parts.count == 2, !parts[1].hasPrefix("/") {
            permissions = parts[1]
        } else if parts.count >= 2 {
            place = parts[1]
        }
        if parts.count == 3 { permissions = parts[2] }
        guard place.hasPrefix("/"), permissions.allSatisfy({ "rwm".contains($0) }) else {
            throw refused("not PATH[:DST[:rwm]]")
        }
        source = parts[0]
        destination = place
        // What a bind mount can keep back is writing; mknod is forbidden in any case.
        isReadOnly = !permissions.contains("w")
        guard checksHost else { return }
        var status = stat()
        guard stat(root.outside(source), &status) == 0 else {
            throw Diagnostic(
                DiagnosticCode("device-missing"), "--device \(source)",
                reasons: [String(cString: strerror(errno)).lowercased()],
                remedies: ["ls -l \(source)"])
        }
    }
}
