import Glibc
import LinuxSystem

/// The files of one job's record: `$XDG_STATE_HOME/trireme/jobs/ID/`.
package enum RecordFile {
    /// One JSON object a line (`JobEvent`).
    package static let events = "events.jsonl"
    /// What the ranks wrote (`OutputChunk`).
    package static let output = "output"
    /// How the leader is reached; there while it runs, for the user alone.
    package static let control = "control"

    /// Whole content; nil when it cannot be read.
    static func bytes(_ path: String) -> [UInt8]? {
        guard let file = try? OwnedDescriptor.open(path, O_RDONLY) else { return nil }
        return try? file.readAll(limit: 1 << 30)
    }
}

/// One piece of a rank's output: a header line `RANK STREAM MILLISECONDS LENGTH\n`, then LENGTH bytes.
///
/// One file for all ranks keeps the order in which the leader heard them, and takes one descriptor
/// for any number of ranks. Rank -1 is what the launcher (mpirun) itself said.
package struct OutputChunk: Equatable, Sendable {
    package var rank: Int
    /// 1 or 2.
    package var stream: Int
    /// Since the record was begun.
    package var milliseconds: Int
    package var bytes: [UInt8]

    package init(rank: Int, stream: Int, milliseconds: Int, bytes: [UInt8]) {
        self.rank = rank
        self.stream = stream
        self.milliseconds = milliseconds
        self.bytes = bytes
    }

    func append(to file: inout [UInt8]) {
        file += Array("\(rank) \(stream) \(milliseconds) \(bytes.count)\n".utf8)
        file += bytes
    }

    /// No chunk is larger; a length above it is damage.
    static let limit = 16 << 20
    private static let headerLimit = 96

    /// Takes whole chunks off the front of `data`; what is left is not whole yet. A header that is none
    /// ends the reading: what follows cannot be told apart.
    package static func take(from data: inout ArraySlice<UInt8>) -> [OutputChunk] {
        var chunks: [OutputChunk] = []
        while let end = data.prefix(headerLimit).firstIndex(of: UInt8(ascii: "\n")) {
            let words = data[..<end].split(separator: UInt8(ascii: " ")).compactMap {
                Int(String(decoding: $0, as: UTF8.self))
            }
            guard words.count == 4, words[3] >= 0, words[3] <= limit else {
                data = []
                break
            }
            let body = data[(end + 1)...]
            guard body.count >= words[3] else { break }
            chunks.append(
                OutputChunk(
                    rank: words[0], stream: words[1], milliseconds: words[2], bytes: Array(body.prefix(words[3]))))
            data = body.dropFirst(words[3])
        }
        return chunks
    }
}
