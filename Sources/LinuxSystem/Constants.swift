// Numbers of the kernel's interface that glibc's Swift import does not carry.
// Sources: linux/sched.h, linux/mount.h, linux/prctl.h, linux/fcntl.h, linux/openat2.h.

package enum CloneFlags {
    /// The new process is a sibling of its maker, not a child.
    package static let parent: Int32 = 0x8000
    package static let newTime: Int32 = 0x80
    package static let newMount: Int32 = 0x0002_0000
    package static let newCgroup: Int32 = 0x0200_0000
    package static let newUTS: Int32 = 0x0400_0000
    package static let newIPC: Int32 = 0x0800_0000
    package static let newUser: Int32 = 0x1000_0000
    package static let newPID: Int32 = 0x2000_0000
    package static let newNetwork: Int32 = 0x4000_0000
}

package enum MountFlags {
    package static let readOnly: UInt = 1
    package static let noSetuid: UInt = 2
    package static let noDevices: UInt = 4
    package static let noExec: UInt = 8
    package static let remount: UInt = 32
    package static let bind: UInt = 4096
    package static let recursive: UInt = 16384
    package static let isPrivate: UInt = 1 << 18
    package static let slave: UInt = 1 << 19
}

/// Attributes of mount_setattr(2) and fsmount(2).
package enum MountAttribute {
    package static let readOnly: UInt64 = 1
    package static let noSetuid: UInt64 = 2
    package static let noDevices: UInt64 = 4
    package static let noExec: UInt64 = 8
}

package enum MountTree {
    package static let openClone: UInt32 = 1
    package static let openCloseOnExec: UInt32 = 0o2000000
    package static let recursive: UInt32 = 0x8000
    package static let moveFromEmptyPath: UInt32 = 0x4
    package static let moveToEmptyPath: UInt32 = 0x40
    package static let fsopenCloseOnExec: UInt32 = 1
    package static let fsmountCloseOnExec: UInt32 = 1
    package static let configSetFlag: UInt32 = 0
    package static let configSetString: UInt32 = 1
    package static let configCreate: UInt32 = 6
    package static let detach: Int32 = 2
}

package enum PathFlags {
    package static let path: Int32 = 0o10000000  // O_PATH
    package static let temporaryFile: Int32 = 0o20000000 | 0o200000  // O_TMPFILE
    package static let emptyPath: UInt32 = 0x1000  // AT_EMPTY_PATH
    package static let symlinkNoFollow: UInt32 = 0x100  // AT_SYMLINK_NOFOLLOW
}

/// How openat2(2) may walk a path.
package enum ResolveFlags {
    package static let noCrossDevice: UInt64 = 0x01
    package static let noMagicLinks: UInt64 = 0x02
    package static let noSymlinks: UInt64 = 0x04
    package static let beneath: UInt64 = 0x08
    package static let inRoot: UInt64 = 0x10
}

package enum ProcessControl {
    package static let setParentDeathSignal: Int32 = 1
    package static let setDumpable: Int32 = 4
    package static let setName: Int32 = 15
    package static let capabilityBoundingDrop: Int32 = 24
    package static let setSecureBits: Int32 = 28
    package static let setChildSubreaper: Int32 = 36
    package static let setNoNewPrivileges: Int32 = 38
    package static let getNoNewPrivileges: Int32 = 39
    package static let capabilityAmbient: Int32 = 47
    package static let capabilityAmbientClearAll: UInt = 4
}
