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
    static func execute(_ plan: LaunchPlan, verb: String, words: [[UInt8]], isQuiet: Bool) throws(Diagnostic) -> Int32 {
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
            let handed = (["trireme", verb] + (isQuiet ? ["-q"] : []) + ["--plan-fd", String(file.release()), "--"]).map
            {
                Array($0.utf8)
            }
            if let scope = userScope(for: plan) {
                try become(scope, scopeWords + [Array(program.utf8)] + handed.dropFirst() + words)
            }
            try become(program, handed + words)
        } catch {
            throw Diagnostic(DiagnosticCode("installation"), "trireme", reasons: [error.sentence])
        }
    }

    private static let scopeWords = [
        "systemd-run", "--user", "--scope", "--quiet", "--collect", "--property=Delegate=yes", "--",
    ].map { Array($0.utf8) }

    /// `systemd-run`, when the limits need a control group that only a scope of its own can give.
    private static func userScope(for plan: LaunchPlan) -> String? {
        var limits = CgroupLimits()
        for limit in plan.limits {
            let parts = limit.split(separator: "=", maxSplits: 1).map(String.init)
            guard parts.count == 2, limits.take(parts[0], parts[1]) else { return nil }
        }
        guard ControlGroup.needsScope(limits), let runtime = getenv("XDG_RUNTIME_DIR"),
            access(String(cString: runtime) + "/systemd/private", W_OK) == 0, let path = getenv("PATH")
        else { return nil }
        return String(cString: path).split(separator: ":").map { $0 + "/systemd-run" }.first { access($0, X_OK) == 0 }
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
