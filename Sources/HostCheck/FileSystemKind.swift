/// What a file system is, told by f_type of statfs(2). Sources: linux/magic.h and, for file systems
/// outside the kernel's tree, the constant their own headers define.
package struct FileSystemKind: Equatable, Sendable {
    package enum Reach: Sendable {
        case local
        /// Every access may cross a network.
        case network
        /// Lives in memory, gone after a restart.
        case memory
    }
    package var name: String
    package var reach: Reach

    package init(magic: UInt32) {
        switch magic {
        case 0x6969: self = .network("NFS")
        case 0x0BD0_0BD0: self = .network("Lustre")
        case 0x4750_4653: self = .network("GPFS")
        case 0x1983_0326: self = .network("BeeGFS")
        case 0x00C3_6400: self = .network("CephFS")
        case 0xAAD7_AAEA: self = .network("PanFS")
        case 0xFF53_4D42, 0xFE53_4D42: self = .network("SMB")
        case 0x5346_414F: self = .network("AFS")
        case 0x0102_1997: self = .network("9p")
        case 0x0116_1970: self = .network("GFS2")
        case 0x7461_636F: self = .network("OCFS2")
        case 0x6573_5546: self = .network("FUSE")
        case 0x0102_1994: self = .memory("tmpfs")
        case 0x8584_58F6: self = .memory("ramfs")
        case 0xEF53: self = .local("ext4")
        case 0x5846_5342: self = .local("XFS")
        case 0x9123_683E: self = .local("Btrfs")
        case 0x2FC1_2FC1: self = .local("ZFS")
        case 0xCA45_1A4E: self = .local("bcachefs")
        case 0xF2F5_2010: self = .local("F2FS")
        case 0x794C_7630: self = .local("overlay")
        default: self = .local("type 0x" + String(magic, radix: 16))
        }
    }

    private init(name: String, reach: Reach) {
        self.name = name
        self.reach = reach
    }
    private static func local(_ name: String) -> Self { Self(name: name, reach: .local) }
    private static func network(_ name: String) -> Self { Self(name: name, reach: .network) }
    private static func memory(_ name: String) -> Self { Self(name: name, reach: .memory) }
}

/// `bytes` in binary units with at most one decimal: `3.5 GiB`.
func inWords(bytes: UInt64) -> String {
    let units = ["bytes", "KiB", "MiB", "GiB", "TiB", "PiB"]
    var unit = 0
    var tenths = bytes
    while tenths >= 1024 && unit < units.count - 1 {
        tenths /= 1024
        unit += 1
    }
    if unit == 0 || tenths >= 10 { return "\(tenths) \(units[unit])" }
    let divisor = (0..<unit).reduce(UInt64(1)) { product, _ in product * 1024 }
    return "\(tenths).\((bytes % divisor) * 10 / divisor) \(units[unit])"
}
