import CLinux
import Glibc
import LinuxSystem

/// A close-on-exec pipe whose ends outlive any scope: each goes to another process.
package struct PipeEnds {
    package var read: Int32
    package var write: Int32

    package init() throws(SyscallError) {
        var ends: [Int32] = [-1, -1]
        try checked("pipe2") { linux_pipe2(&ends, O_CLOEXEC) }
        (read, write) = (ends[0], ends[1])
    }

    package init(read: Int32, write: Int32) {
        self.read = read
        self.write = write
    }
}
