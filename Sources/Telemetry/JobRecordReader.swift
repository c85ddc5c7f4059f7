import FoundationEssentials
import Glibc
import JobModel
import LinuxSystem

/// Reads a job's record, also while it is being written, from any node that sees the directory.
package final class JobRecordReader {
    package let id: String
    package let directory: String
    /// How far the files were read.
    private var eventsOffset = 0
    private var outputOffset = 0
    private let decoder = JSONDecoder()

    package init(id: String, in jobs: String) {
        self.id = id
        directory = "\(jobs)/\(id)"
    }

    /// Every record below `jobs`, oldest first.
    package static func all(in jobs: String) -> [JobRecordReader] {
        guard let listing = opendir(jobs) else { return [] }
        defer { closedir(listing) }
        var found: [(began: String, reader: JobRecordReader)] = []
        while let entry = readdir(listing) {
            let name = withUnsafeBytes(of: &entry.pointee.d_name) {
                String(decoding: $0.prefix { $0 != 0 }, as: UTF8.self)
            }
            if name.hasPrefix(".") { continue }
            let reader = JobRecordReader(id: name, in: jobs)
            guard let first = reader.firstEvent() else { continue }
            found.append((first.time, reader))
        }
        return found.sorted { ($0.began, $0.reader.id) < ($1.began, $1.reader.id) }.map(\.reader)
    }

    private func firstEvent() -> JobEvent? {
        guard let file = try? OwnedDescriptor.open("\(directory)/\(RecordFile.events)", O_RDONLY) else { return nil }
        var start = [UInt8](repeating: 0, count: 256 << 10)
        let n = start.withUnsafeMutableBytes { (try? file.read(into: $0)) ?? 0 }
        guard let end = start[..<n].firstIndex(of: UInt8(ascii: "\n")) else { return nil }
        return try? decoder.decode(JobEvent.self, from: Data(start[..<end]))
    }

    /// The events that came since the last call. A line without end is still being written, or torn by a
    /// crash; one that is no event is passed over.
    package func newEvents() throws(SyscallError) -> [JobEvent] {
        let fresh = try read(RecordFile.events, from: eventsOffset)
        guard let end = fresh.lastIndex(of: UInt8(ascii: "\n")) else { return [] }
        eventsOffset += end + 1
        return fresh[..<end].split(separator: UInt8(ascii: "\n")).compactMap {
            try? decoder.decode(JobEvent.self, from: Data($0))
        }
    }

    /// The output that came since the last call.
    package func newOutput() throws(SyscallError) -> [OutputChunk] {
        let fresh = try read(RecordFile.output, from: outputOffset)
        var rest = fresh[...]
        let chunks = OutputChunk.take(from: &rest)
        outputOffset += fresh.count - rest.count
        return chunks
    }

    private func read(_ name: String, from offset: Int) throws(SyscallError) -> [UInt8] {
        let path = "\(directory)/\(name)"
        let file = try OwnedDescriptor.open(path, O_RDONLY)
        guard lseek(file.raw, offset, SEEK_SET) >= 0 else { throw SyscallError("lseek", path) }
        return try file.readAll(limit: 4 << 30)
    }

    /// The job as it stands.
    /// - Throws: when the record cannot be read; nil when it has no first line yet.
    package func summary() throws(SyscallError) -> JobSummary? {
        let reader = JobRecordReader(id: id, directory: directory)
        guard var summary = JobSummary(try reader.newEvents()) else { return nil }
        if summary.state != .ended, !isLed(summary) { summary.state = .lost }
        return summary
    }

    private init(id: String, directory: String) {
        self.id = id
        self.directory = directory
    }

    /// Three beats may be missed, and file systems show times late.
    private static let silenceSeconds = 45

    /// Whether the job's leader lives: seen directly, or by its touching the record.
    private func isLed(_ summary: JobSummary) -> Bool {
        if let alive = summary.facts.leader.isAlive { return alive }
        var status = stat()
        guard stat("\(directory)/\(RecordFile.events)", &status) == 0 else { return false }
        return time(nil) - status.st_mtim.tv_sec <= Self.silenceSeconds
    }
}
