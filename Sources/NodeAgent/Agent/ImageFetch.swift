import CLinux
import Glibc
import JobModel
import JobWire
import LaunchPlan
import LinuxSystem
import Processes

/// The command that brings the job's image into this node's store (`trireme image receive`), where the store is not
/// the leader's. It lives beside the container, and serves other nodes until all of them have the image.
package final class ImageFetch {
    let pid: pid_t
    /// Read end of its output; -1 at its end.
    private(set) var output: Int32
    private var said: [UInt8] = []
    /// Where the image came from, once it is there.
    private(set) var origin: String?

    /// Before a node's number and where it has the image from, on a line of its own.
    package static let done = "spread-done"
    private static let saidBytes = 16 << 10

    init(_ command: [[UInt8]], environment: [[UInt8]]) throws(SyscallError) {
        let ends = try PipeEnds()
        defer { close(ends.write) }
        let input = open("/dev/null", O_RDONLY | O_CLOEXEC)
        defer { close(input) }
        output = ends.read
        _ = linux_fcntl_int(ends.read, F_SETFL, Int(O_NONBLOCK))
        pid = try ChildProcess.start(
            command, environment: environment,
            streams: ChildProcess.Streams(input: input, output: ends.write, error: ends.write), deathSignal: SIGTERM)
    }

    deinit { if output >= 0 { close(output) } }

    /// Takes what the command says. True when that settles something: the image is there, or will not come.
    func read() -> Bool {
        var chunk = [UInt8](repeating: 0, count: 4096)
        while output >= 0 {
            let n = Glibc.read(output, &chunk, chunk.count)
            if n > 0 {
                said = Array((said + chunk[..<n]).suffix(Self.saidBytes))
            } else if n == 0 {
                close(output)
                output = -1
            } else if errno != EINTR {
                break
            }
        }
        guard origin == nil else { return false }
        for line in said.split(separator: UInt8(ascii: "\n")) {
            let words = String(decoding: line, as: UTF8.self).split(separator: " ")
            if words.count == 3, words[0] == Self.done { origin = String(words[2]) }
        }
        return origin != nil || output < 0
    }

    /// What it said last, without its progress.
    var complaint: String {
        let lines = String(decoding: said, as: UTF8.self).split(separator: "\n")
        return (lines.last { $0.hasPrefix("trireme: ") } ?? lines.last).map(String.init) ?? "it said nothing"
    }

    /// The first part of the job's image that is not on this node; nil when all of it is, or nothing is known of it.
    static func missing(_ job: JobAssignment) -> String? {
        guard !job.plan.isEmpty, let plan = try? LaunchPlan(decoding: job.plan), plan.imageFile.isEmpty else {
            return nil
        }
        return plan.layers.lazy.map { $0.hasPrefix("/") ? $0 : job.store + "/" + $0 }
            .first { access($0, F_OK) != 0 && (errno == ENOENT || errno == ENOTDIR) }
    }
}

extension Agent {
    func fetchImage(_ command: [[UInt8]], _ environment: [[UInt8]], _ plan: [UInt8]) {
        guard let job, fetch == nil else { return }
        if !plan.isEmpty { self.job?.plan = plan }
        do throws(SyscallError) {
            fetch = try ImageFetch(command, environment: EnvironmentBlock.merged(job.environment, environment))
        } catch { refuse(AgentFailure(step: Self.fetchStep, errno: error.errno, subject: "trireme-cli")) }
    }

    /// The step of an `AgentFailure` for which the image did not come.
    package static let fetchStep = "fetchImage"

    func hearFetch() {
        guard let fetch, fetch.read(), let job else { return }
        guard let origin = fetch.origin else {
            return refuse(AgentFailure(step: Self.fetchStep, errno: 0, subject: fetch.complaint))
        }
        if let path = ImageFetch.missing(job) {
            return refuse(AgentFailure(step: Self.fetchStep, errno: ENOENT, subject: path))
        }
        leader.send(.imageFetched(origin: origin))
        enter(job)
    }

    /// Nobody needs it any more.
    func endFetch() { if let fetch, !isFetchReaped { kill(fetch.pid, SIGTERM) } }
}
