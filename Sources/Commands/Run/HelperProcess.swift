import CLinux
import Glibc
import LinuxSystem
import Processes
import SiteConfiguration

/// A command of the batch system that runs beside the leader: srun for the agents or the ranks.
/// It is told to end (SIGTERM) when the leader dies.
final class HelperProcess {
    let pid: pid_t
    /// Read end of its output, -1 at the end.
    private(set) var output: Int32 = -1
    var hasEnded = false
    /// It only tells somebody something: its success says nothing about the agents.
    let isMessage: Bool
    private var said: [UInt8] = []

    private static let saidBytes = 4096

    /// - Parameter input: what it reads, at most a pipe's 64 KiB; then end of file.
    init(_ words: [String], environment: [[UInt8]], input: [UInt8] = [], isMessage: Bool = false)
        throws(SyscallError)
    {
        self.isMessage = isMessage
        var ends: [Int32] = [-1, -1]
        let source = try Self.source(input)
        defer { close(source) }
        try checked("pipe2") { linux_pipe2(&ends, O_CLOEXEC) }
        let streams = ChildProcess.Streams(input: source, output: ends[1], error: ends[1])
        defer { close(ends[1]) }
        pid = try ChildProcess.start(
            words.map { Array($0.utf8) }, environment: environment, streams: streams, deathSignal: SIGTERM)
        output = ends[0]
        if output >= 0 { _ = linux_fcntl_int(output, F_SETFL, Int(O_NONBLOCK)) }
    }

    deinit { if output >= 0 { close(output) } }

    private static func source(_ bytes: [UInt8]) throws(SyscallError) -> Int32 {
        if bytes.isEmpty { return open("/dev/null", O_RDONLY | O_CLOEXEC) }
        var ends: [Int32] = [-1, -1]
        try checked("pipe2") { linux_pipe2(&ends, O_CLOEXEC) }
        _ = bytes.withUnsafeBytes { write(ends[1], $0.baseAddress, $0.count) }
        close(ends[1])
        return ends[0]
    }

    /// What it said since the last call; the last of it is kept for the error message.
    func readOutput() -> [UInt8] {
        var fresh: [UInt8] = []
        var chunk = [UInt8](repeating: 0, count: 4096)
        while output >= 0 {
            let n = read(output, &chunk, chunk.count)
            if n > 0 {
                fresh += chunk[..<n]
            } else if n == 0 {
                close(output)
                output = -1
            } else if errno != EINTR {
                break
            }
        }
        said = Array((said + fresh).suffix(Self.saidBytes))
        return fresh
    }

    /// The line that says most: the last one of an agent, else its own last.
    var tail: String {
        let lines = String(decoding: said, as: UTF8.self).split(separator: "\n")
        // What srun says after an agent's words is only that it ended the others.
        return (lines.last { $0.hasPrefix("trireme-agent: ") } ?? lines.last).map(String.init) ?? ""
    }

    func end(_ number: Int32) { if !hasEnded { kill(pid, number) } }
}

/// Programs installed beside this one.
enum SiteProgram {
    static func path(_ name: String) throws(SyscallError) -> String { try Locations.programDirectory() + "/" + name }
}

/// What of the leader's environment the ranks see.
enum JobEnvironment {
    /// Without the variables by which an outer launcher would claim the ranks as its own: they
    /// would call home to a server that does not know them.
    static func passed(_ environment: [[UInt8]]) -> [[UInt8]] {
        environment.filter { entry in
            let name = String(decoding: EnvironmentBlock.name(entry), as: UTF8.self)
            if name.hasPrefix("OMPI_MCA_") {
                return !["OMPI_MCA_orte_", "OMPI_MCA_ess", "OMPI_MCA_pmix"].contains { name.hasPrefix($0) }
            }
            return ![
                "PMI_", "PMI2_", "PMIX_", "OMPI_", "PRTE_", "HYDRA_", "MPIR_", "SLURM_PMI", "SLURM_MPI_TYPE",
                "TRIREME_JOB_SECRET", QueueWatch.variable,
            ]
            .contains { name.hasPrefix($0) }
        }
    }
}
