/// What a process and those it waited for used (getrusage(2), proc(5)).
package struct ResourceUsage: Codable, Equatable, Sendable {
    /// Processor time, user and system together.
    package var cpuMicroseconds: UInt64 = 0
    /// Largest resident set of one process, bytes.
    package var peakMemory: UInt64 = 0
    /// What read(2) and its kin brought, from wherever.
    package var readBytes: UInt64 = 0
    package var writtenBytes: UInt64 = 0

    /// The most that is taken from outside as any of these numbers: a process of a rank may say what it likes, and
    /// a thousand ranks' numbers are still added up, and written as JSON, without loss.
    package static let limit: UInt64 = 1 << 53

    package init() {}

    package init(cpuMicroseconds: UInt64, peakMemory: UInt64, readBytes: UInt64, writtenBytes: UInt64) {
        self.cpuMicroseconds = cpuMicroseconds
        self.peakMemory = peakMemory
        self.readBytes = readBytes
        self.writtenBytes = writtenBytes
    }

    enum CodingKeys: String, CodingKey {
        case cpuMicroseconds = "cpu_us"
        case peakMemory = "peak_memory"
        case readBytes = "read"
        case writtenBytes = "written"
    }

    package var cpuSeconds: Double { Double(cpuMicroseconds) / 1e6 }

    /// The sum of what was used, the larger of the peaks.
    package func adding(_ other: ResourceUsage) -> ResourceUsage {
        func sum(_ a: UInt64, _ b: UInt64) -> UInt64 {
            let (value, isTooLarge) = a.addingReportingOverflow(b)
            return isTooLarge ? .max : value
        }
        return ResourceUsage(
            cpuMicroseconds: sum(cpuMicroseconds, other.cpuMicroseconds),
            peakMemory: max(peakMemory, other.peakMemory), readBytes: sum(readBytes, other.readBytes),
            writtenBytes: sum(writtenBytes, other.writtenBytes))
    }

    /// The larger of each: samples of one process come late and its end may not have been measured.
    package func atLeast(_ other: ResourceUsage) -> ResourceUsage {
        ResourceUsage(
            cpuMicroseconds: max(cpuMicroseconds, other.cpuMicroseconds),
            peakMemory: max(peakMemory, other.peakMemory), readBytes: max(readBytes, other.readBytes),
            writtenBytes: max(writtenBytes, other.writtenBytes))
    }
}
