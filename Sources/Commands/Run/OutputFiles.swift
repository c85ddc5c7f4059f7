import Diagnostics
import Glibc
import JobModel
import LinuxSystem
import Orchestrator

/// `--output` and `--error`: what ranks write goes to files, one for all or one for each, by pattern.
///
/// The leader writes them, where the user stands, so the nodes need not share a file system. A file is
/// emptied when it is first written to in the job.
struct OutputFiles {
    /// `%j` job, `%r` or `%t` rank, `%R` rank within its node, `%n` node's number, `%h` or `%N` node, `%u` user, `%%`.
    static let letters: Set<Character> = ["j", "r", "t", "R", "n", "h", "N", "u", "%"]

    private let output: String?
    private let error: String?
    private let map: TaskMap
    private let jobID: String
    private let user: String
    private var opened: [String: OwnedDescriptorBox] = [:]
    /// Those already emptied.
    private var begun: Set<String> = []

    /// Far below the usual limit of 1024 descriptors; with more files they are opened again for each write.
    private static let openLimit = 256

    private final class OwnedDescriptorBox {
        let descriptor: OwnedDescriptor
        init(_ descriptor: consuming OwnedDescriptor) { self.descriptor = descriptor }
    }

    /// Nil when neither is asked for. Without `error`, both streams go to `output`, as srun does it.
    init?(output: String?, error: String?, map: TaskMap, jobID: String) {
        guard output != nil || error != nil else { return nil }
        self.output = output
        self.error = error ?? output
        self.map = map
        self.jobID = jobID
        user = getenv("USER").map { String(cString: $0) } ?? "\(geteuid())"
    }

    /// - Throws: `option-value` for a letter that means nothing.
    static func check(_ option: String, _ pattern: String?) throws(Diagnostic) {
        guard let pattern else { return }
        var rest = pattern[...]
        while let at = rest.firstIndex(of: "%") {
            let letter = rest.index(after: at)
            guard letter < rest.endIndex, letters.contains(rest[letter]) else {
                throw Diagnostic(
                    DiagnosticCode("option-value"), "\(option) \(pattern)",
                    reasons: ["'\(rest[at...].prefix(2))' stands for nothing"],
                    remedies: [
                        "%j job, %r rank, %R rank within its node, %n node's number, %h node, %u user, %% a percent sign"
                    ])
            }
            rest = rest[rest.index(after: letter)...]
        }
        if pattern.isEmpty {
            throw Diagnostic(DiagnosticCode("option-value"), "\(option) ''", reasons: ["names no file"])
        }
    }

    /// Nil when this stream of the rank goes where the leader's own does.
    func path(_ rank: Int, _ stream: Int) -> String? {
        guard let pattern = stream == 1 ? output : error else { return nil }
        let place = map.place(of: rank)
        let node = place.map { map.nodes[$0.node].name } ?? ""
        var path = ""
        var isLetter = false
        for character in pattern {
            guard isLetter else {
                if character == "%" { isLetter = true } else { path.append(character) }
                continue
            }
            isLetter = false
            switch character {
            case "j": path += jobID
            case "r", "t": path += "\(rank)"
            case "R": path += "\(place?.localRank ?? 0)"
            case "n": path += "\(place?.node ?? 0)"
            case "h", "N": path += node
            case "u": path += user
            default: path.append(character)
            }
        }
        return path
    }

    /// - Throws: when the file cannot be opened or takes no more; what was to be written is then lost.
    mutating func write(_ bytes: [UInt8], to path: String) throws(SyscallError) {
        if opened[path] == nil {
            if opened.count >= Self.openLimit { opened = [:] }
            let fresh = begun.insert(path).inserted ? O_TRUNC : 0
            opened[path] = OwnedDescriptorBox(
                try OwnedDescriptor.open(path, O_WRONLY | O_CREAT | O_APPEND | fresh, mode: 0o666))
        }
        guard let file = opened[path] else { return }
        var written = 0
        while written < bytes.count {
            let n = bytes.withUnsafeBytes {
                Glibc.write(file.descriptor.raw, $0.baseAddress! + written, bytes.count - written)
            }
            if n < 0, errno == EINTR { continue }
            guard n > 0 else { throw SyscallError("write", path) }
            written += n
        }
    }
}

extension JobLeader {
    /// What rank `rank` wrote, to its file or to our own stream.
    func rankWrote(_ rank: Int, _ stream: Int, _ bytes: [UInt8]) {
        guard let path = outputFiles?.path(rank, stream) else {
            return streams.add(stream, bytes, isFromTerminal: rank == 0 && job.ranks.terminal != nil)
        }
        do throws(SyscallError) { try outputFiles?.write(bytes, to: path) } catch {
            let diagnostic = Diagnostic(
                DiagnosticCode("output-lost"), path, reasons: ["what rank \(rank) wrote is lost", error.sentence],
                remedies: ["df \(path.contains("/") ? String(path[...(path.lastIndex(of: "/")!)]) : ".")"])
            act(machine.handle(.refused(code: ExitCode.ownFailure, diagnostic), now: MonotonicTime.now()))
        }
    }
}
