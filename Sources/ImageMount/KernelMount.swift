import CLinux
import Glibc
import ImageFormats
import LinuxSystem

/// The kernel's own squashfs, for root's own images: quicker, but the kernel then parses what it is given.
/// So only for who is root of the machine, and only of a file that nobody else can have written
/// (`ImageFile.isRootsOwn`); whatever stands against it, FUSE serves.
struct KernelMount {
    private let image: Int32
    private let payload: ImageFile.Payload

    /// linux/loop.h
    private enum Loop {
        static let getFree: UInt = 0x4C82
        static let configure: UInt = 0x4C0A
        static let configurationBytes = 304
        static let offsetAt = 32
        static let limitAt = 40
        static let flagsAt = 60
        static let readOnly: UInt32 = 1
        /// The device is let go with its last user, the mount.
        static let autoClear: UInt32 = 4
        /// Another process may take the device that was free.
        static let attempts = 16
    }

    init(image: Int32, _ payload: ImageFile.Payload) {
        self.image = image
        self.payload = payload
    }

    /// A descriptor of the image's mount, which is nowhere yet; nil when it is not to be the kernel's, or
    /// cannot be.
    func mount(_ reader: SquashReader) -> Int32? {
        if let wish = getenv("TRIREME_SINGLE_FILE"), strcmp(wish, "fuse") == 0 { return nil }
        // Files of others would be nobody's in the containers' user namespace; FUSE shows them as the caller's.
        guard ImageFile.isRootsOwn(image), reader.isAllRoots, let (device, number) = loopDevice() else { return nil }
        // Then the mount holds it.
        defer { close(device) }
        let context = linux_fsopen("squashfs", MountTree.fsopenCloseOnExec)
        guard context >= 0 else { return nil }
        defer { close(context) }
        guard linux_fsconfig(context, MountTree.configSetFlag, "ro", nil, 0) == 0,
            linux_fsconfig(context, MountTree.configSetString, "source", "/dev/loop\(number)", 0) == 0,
            linux_fsconfig(context, MountTree.configCreate, nil, nil, 0) == 0
        else { return nil }
        let attributes = MountAttribute.readOnly | MountAttribute.noSetuid | MountAttribute.noDevices
        let tree = linux_fsmount(context, MountTree.fsmountCloseOnExec, UInt32(attributes))
        return tree >= 0 ? tree : nil
    }

    private func loopDevice() -> (descriptor: Int32, number: Int32)? {
        let control = open("/dev/loop-control", O_RDWR | O_CLOEXEC)
        guard control >= 0 else { return nil }
        defer { close(control) }
        var configuration = [UInt8](repeating: 0, count: Loop.configurationBytes)
        configuration.withUnsafeMutableBytes {
            $0.storeBytes(of: UInt32(bitPattern: image), as: UInt32.self)
            if payload.offset > 0 {
                $0.storeBytes(of: UInt64(payload.offset), toByteOffset: Loop.offsetAt, as: UInt64.self)
                $0.storeBytes(of: UInt64(payload.length), toByteOffset: Loop.limitAt, as: UInt64.self)
            }
            $0.storeBytes(of: Loop.readOnly | Loop.autoClear, toByteOffset: Loop.flagsAt, as: UInt32.self)
        }
        for _ in 0..<Loop.attempts {
            let number = linux_ioctl_int(control, Loop.getFree, 0)
            guard number >= 0 else { return nil }
            let device = open("/dev/loop\(number)", O_RDONLY | O_CLOEXEC)
            guard device >= 0 else { return nil }
            let result = configuration.withUnsafeMutableBytes {
                linux_ioctl_pointer(device, Loop.configure, $0.baseAddress)
            }
            if result == 0 { return (device, number) }
            let code = errno
            close(device)
            guard code == EBUSY else { return nil }
        }
        return nil
    }
}
