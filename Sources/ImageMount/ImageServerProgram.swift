import CLinux
import Glibc
import ImageFormats
import LinuxSystem

/// The program `trireme-mount`, which launches start and people need not know:
/// `trireme-mount serve PATH` serves the image on descriptor 4 to the socket on 3, and
/// `trireme-mount unpack PATH DIRECTORY` writes it into a directory. How that went is one message on
/// descriptor 5: an errno (0: well) and a reason. Descriptors come from the launch, so that the file that
/// is served is the file that was named then.
package enum ImageServerProgram {
    private enum Descriptor {
        static let listener: Int32 = 3
        static let image: Int32 = 4
        static let report: Int32 = 5
    }

    package static func main(_ arguments: [String]) -> Int32 {
        signal(SIGPIPE, SIG_IGN)
        for descriptor in [Descriptor.listener, Descriptor.image, Descriptor.report] {
            _ = linux_fcntl_int(descriptor, F_SETFD, Int(FD_CLOEXEC))
        }
        switch (arguments.first, arguments.count) {
        case ("serve", 2):
            let server = ImageServer(listener: Descriptor.listener)
            do throws(ImageServer.Failure) { try server.start(image: Descriptor.image) } catch {
                report(error.errno, error.reason)
                return 1
            }
            report(0, "")
            server.serve()
        case ("unpack", 3):
            do throws(ArchiveFault) { try unpack(into: arguments[2]) } catch {
                report(error.errno == 0 ? EBADMSG : error.errno, error.reason)
                return 1
            }
            report(0, "")
            return 0
        default:
            let text = "trireme-mount: started by trireme to serve single-file images; it has no use of its own\n"
            _ = write(2, text, text.utf8.count)
            return 125
        }
    }

    private static func report(_ code: Int32, _ reason: String) {
        var message = withUnsafeBytes(of: code) { Array($0) }
        message += Array(reason.utf8.prefix(500))
        _ = write(Descriptor.report, message, message.count)
        close(Descriptor.report)
    }

    private static func unpack(into path: String) throws(ArchiveFault) {
        let payload = try ImageFile.payload(Descriptor.image)
        let reader = try SquashReader(Descriptor.image, offset: payload.offset, length: payload.length)
        let directory: OwnedDescriptor
        do throws(SyscallError) { directory = try OwnedDescriptor.open(path, O_RDONLY | O_DIRECTORY) } catch {
            throw ArchiveFault(error)
        }
        var options = SquashExtraction.Options()
        options.isForRunning = true
        var extraction = SquashExtraction(reader, into: directory.raw, options: options)
        _ = try extraction.run()
    }
}
