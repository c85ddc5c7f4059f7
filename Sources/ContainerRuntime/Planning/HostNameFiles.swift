import LaunchPlan
import LinuxSystem

/// The files that go with a host name of the container's own.
package enum HostNameFiles {
    /// `/etc/hostname`, and `/etc/hosts` of the host with one line more: a name that does not resolve
    /// costs MPI libraries seconds at every start.
    package static func files(_ name: String) -> [LaunchPlan.File] {
        var hosts: [UInt8] = []
        if let file = try? OwnedDescriptor.open("/etc/hosts", 0), let bytes = try? file.readAll(limit: 1 << 20) {
            hosts = bytes
        }
        if hosts.isEmpty { hosts = Array("127.0.0.1 localhost\n::1 localhost\n".utf8) }
        if hosts.last != 10 { hosts.append(10) }
        hosts += Array("127.0.1.1 \(name)\n".utf8)
        return [
            LaunchPlan.File(destination: "/etc/hosts", content: hosts),
            LaunchPlan.File(destination: "/etc/hostname", content: Array("\(name)\n".utf8)),
        ]
    }
}
