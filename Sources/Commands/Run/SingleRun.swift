import CLinux
import Diagnostics
import Glibc
import LaunchPlan
import LinuxSystem
import SiteConfiguration

/// One container that the launcher could not plan by itself: an option it does not know, or another
/// spelling of the image's name (`docker.io/library/x`, `name@sha256:…`). The launcher gets the
/// finished plan by descriptor, and the words after IMAGE as they were typed.
enum SingleRun {
    /// Becomes `trireme`; returns only to say why not.
    static func execute(_ plan: LaunchPlan, verb: String, words: [[UInt8]]) throws(Diagnostic) -> Int32 {
        let encoded: [UInt8]
        do throws(LaunchPlanError) { encoded = try plan.encoded() } catch {
            throw Diagnostic(
                DiagnosticCode("option-value"), String(decoding: words.first ?? [], as: UTF8.self),
                reasons: ["the options do not fit into a launch plan: \(error)"])
        }
        do throws(SyscallError) {
            let program = try Locations.programDirectory() + "/trireme"
            let file = OwnedDescriptor(owning: try checked("memfd_create") { linux_memfd_create("plan", 0) })
            var failure: SyscallError?
            encoded.withUnsafeBytes { content in
                do throws(SyscallError) { try file.writeAll(content) } catch { failure = error }
            }
            if let failure { throw failure }
            try checked("lseek", "plan") { lseek(file.raw, 0, SEEK_SET) }
            let handed = ["trireme", verb, "--plan-fd", String(file.release()), "--"].map { Array($0.utf8) }
            try become(program, handed + words)
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
