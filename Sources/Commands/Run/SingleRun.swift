import CLinux
import Diagnostics
import Glibc
import ImageStore
import LinuxSystem
import SiteConfiguration

/// One container that the launcher could not find by itself: an image under another
/// spelling of its name (`docker.io/library/x`, `name@sha256:…`). The resolver finds it,
/// and the launcher gets the plan by descriptor and the command line as it was typed.
enum SingleRun {
    /// Becomes `trireme`; returns only to say why not.
    static func execute(_ image: StoredImage, verb: String, optionWords: [[UInt8]], words: [[UInt8]]) throws(Diagnostic)
        -> Int32
    {
        let handedPlan = Array("--plan-fd".utf8)
        do throws(SyscallError) {
            let program = try Locations.programDirectory() + "/trireme"
            let plan = try checked("memfd_create") { linux_memfd_create("plan", 0) }
            try OwnedDescriptor(owning: plan).handOver(image.planPath)
            let arguments =
                [Array("trireme".utf8), Array(verb.utf8), handedPlan, Array(String(plan).utf8)] + optionWords
                + [Array("--".utf8)] + words
            try become(program, arguments)
        } catch {
            throw Diagnostic(DiagnosticCode("installation"), "trireme", reasons: [error.sentence])
        }
    }

    private static func become(_ program: String, _ arguments: [[UInt8]]) throws(SyscallError) -> Never {
        var vector: [UnsafeMutablePointer<CChar>?] = arguments.map { word in
            strdup((word + [0]).map { CChar(bitPattern: $0) })
        }
        vector.append(nil)
        execve(program, vector, linux_environ())
        throw SyscallError("execve", program)
    }
}

extension OwnedDescriptor {
    /// Fills this memory file with the plan at `path` and leaves it open for the next program.
    fileprivate consuming func handOver(_ path: String) throws(SyscallError) {
        let bytes = try OwnedDescriptor.open(path, O_RDONLY).readAll()
        var failure: SyscallError?
        bytes.withUnsafeBytes { content in
            do throws(SyscallError) { try self.writeAll(content) } catch { failure = error }
        }
        if let failure { throw failure }
        try checked("lseek", path) { lseek(self.raw, 0, SEEK_SET) }
        _ = release()
    }
}
