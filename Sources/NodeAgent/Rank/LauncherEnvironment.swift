/// What an MPI's launcher and its daemons are given and the ranks are not.
package enum LauncherEnvironment {
    /// Open MPI's mpirun and orted look at the node's topology through hwloc, whose plug-ins for X displays,
    /// OpenCL devices and XML by libxml2 take a quarter of such a daemon's processor time (13 of 52 ms on Debian 12)
    /// and tell it nothing it uses; `HWLOC_PLUGINS_BLACKLIST` of hwloc's manual, "Environment Variables". The plug-in
    /// for PCI stays: ranks may take the daemon's topology for their own.
    package static let withoutDisplays = Array(
        "HWLOC_PLUGINS_BLACKLIST=hwloc_gl.so,hwloc_opencl.so,hwloc_xml_libxml.so".utf8)

    /// `line`, run by a shell, with what `own`, the environment of the launcher that sends it, has of ours: daemons
    /// on other nodes start from the job's environment, not from the launcher's.
    package static func daemon(_ line: [UInt8], own: [[UInt8]]) -> [UInt8] {
        // A plain assignment cannot stand before what mpirun may send: `( test ! -r ./.profile || … )`.
        own.contains(withoutDisplays) ? Array("export ".utf8) + withoutDisplays + Array("; ".utf8) + line : line
    }

    /// A rank's environment from its daemon's: ranks may use what the daemons do without.
    package static func rank(_ daemon: [[UInt8]]) -> [[UInt8]] { daemon.filter { $0 != withoutDisplays } }
}
