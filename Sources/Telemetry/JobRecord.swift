import FoundationEssentials
import Glibc
import JobModel
import LinuxSystem

/// Writes one job's record. Only its leader does; every write appends whole lines, so that a crash
/// loses at most the last one, which readers then pass over.
package final class JobRecord {
    package let directory: String
    private let events: OwnedDescriptor
    private let output: OwnedDescriptor
    private let began = MonotonicTime.now()
    private let encoder = JSONEncoder()
    private var pending: [UInt8] = []
    /// Output kept so far, by rank.
    private var kept: [Int: Int] = [:]
    private var keptTotal = 0
    private let limits: OutputLimits
    /// The first write that failed; nothing is written after it.
    package private(set) var failure: SyscallError?
    private var nextBeat = 0

    /// How much of the ranks' output is kept.
    package struct OutputLimits: Equatable, Sendable {
        package var perRank: Int
        package var total: Int
        package init(perRank: Int = 1 << 20, total: Int = 256 << 20) {
            self.perRank = perRank
            self.total = total
        }

        /// `TRIREME_RECORD_OUTPUT`: bytes kept of each rank's output, 0 for none; the whole is bounded too.
        package init(setting: String?) {
            self.init()
            guard let setting, let bytes = Int(setting), bytes >= 0 else { return }
            perRank = bytes
            total = max(total, min(bytes, 1 << 40))
        }
    }

    /// The leader shows that it lives by touching the events' file this often.
    package static let beatMilliseconds = 5_000

    /// Makes the record; `directory` must exist and have none yet.
    package init(in directory: String, limits: OutputLimits) throws(SyscallError) {
        self.directory = directory
        self.limits = limits
        let flags = O_WRONLY | O_CREAT | O_EXCL | O_APPEND
        events = try OwnedDescriptor.open("\(directory)/\(RecordFile.events)", flags, mode: 0o600)
        output = try OwnedDescriptor.open("\(directory)/\(RecordFile.output)", flags, mode: 0o600)
        encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
    }

    package func add(_ event: JobEvent) {
        var event = event
        event.time = RecordTime.now()
        event.seconds = Double(MonotonicTime.now() - began) / 1000
        guard failure == nil, let line = try? encoder.encode(event) else { return }
        write(Array(line) + [UInt8(ascii: "\n")], to: events)
    }

    /// Keeps what a rank wrote, up to the limits; what is beyond is said once.
    package func keep(_ bytes: [UInt8], rank: Int, stream: Int) {
        guard failure == nil, !bytes.isEmpty, limits.perRank > 0 else { return }
        let already = kept[rank, default: 0]
        let room = max(0, min(limits.perRank - already, limits.total - keptTotal))
        if already > limits.perRank { return }
        if room < bytes.count {
            // Above the limit marks that it was said.
            kept[rank] = limits.perRank + 1
            var event = JobEvent(.outputTruncated)
            event.rank = rank
            event.count = already + room
            add(event)
        } else {
            kept[rank] = already + bytes.count
        }
        if room == 0 { return }
        let part = room < bytes.count ? Array(bytes[..<room]) : bytes
        keptTotal += part.count
        OutputChunk(rank: rank, stream: stream, milliseconds: MonotonicTime.now() - began, bytes: part)
            .append(to: &pending)
        if pending.count > 1 << 20 { flush() }
    }

    /// Once per turn of the leader's loop.
    package func flush() {
        if !pending.isEmpty {
            write(pending, to: output)
            pending.removeAll(keepingCapacity: true)
        }
        let now = MonotonicTime.now()
        if now >= nextBeat {
            nextBeat = now + Self.beatMilliseconds
            futimens(events.raw, nil)
        }
    }

    /// The last words are on the disk when this returns.
    package func close() {
        flush()
        fsync(events.raw)
        unlink("\(directory)/\(RecordFile.control)")
    }

    private func write(_ bytes: [UInt8], to file: borrowing OwnedDescriptor) {
        guard failure == nil else { return }
        bytes.withUnsafeBytes { buffer in
            do throws(SyscallError) { try file.writeAll(buffer) } catch { failure = error }
        }
    }
}

/// Times of a record.
package enum RecordTime {
    /// RFC 3339 in UTC, with milliseconds.
    package static func now() -> String {
        var now = timespec()
        clock_gettime(CLOCK_REALTIME, &now)
        var parts = tm()
        gmtime_r(&now.tv_sec, &parts)
        var buffer = [CChar](repeating: 0, count: 32)
        let n = strftime(&buffer, buffer.count, "%Y-%m-%dT%H:%M:%S", &parts)
        let text = String(decoding: buffer[..<n].map { UInt8(bitPattern: $0) }, as: UTF8.self)
        let milliseconds = String(now.tv_nsec / 1_000_000)
        return text + "." + String(repeating: "0", count: 3 - milliseconds.count) + milliseconds + "Z"
    }
}
