import CLinux
import Glibc

/// `K=V` byte strings; a later entry replaces an earlier one of the same name.
package enum EnvironmentBlock {
    /// This process's own.
    package static func current() -> [[UInt8]] {
        var result: [[UInt8]] = []
        guard var cursor = linux_environ() else { return [] }
        while let entry = cursor.pointee {
            result.append(
                entry.withMemoryRebound(to: UInt8.self, capacity: strlen(entry)) {
                    Array(UnsafeBufferPointer(start: $0, count: strlen(entry)))
                })
            cursor += 1
        }
        return result
    }

    /// `over` laid over `base`, in first-seen order.
    package static func merged(_ base: [[UInt8]], _ over: [[UInt8]]) -> [[UInt8]] {
        if over.isEmpty { return base }
        var result = base
        var places: [ArraySlice<UInt8>: Int] = [:]
        for (index, entry) in base.enumerated() { places[name(entry)] = index }
        for entry in over {
            if let place = places[name(entry)] {
                result[place] = entry
            } else {
                places[name(entry)] = result.count
                result.append(entry)
            }
        }
        return result
    }

    package static func name(_ entry: [UInt8]) -> ArraySlice<UInt8> {
        entry[..<(entry.firstIndex(of: UInt8(ascii: "=")) ?? entry.endIndex)]
    }

    /// The value of `name`, if set.
    package static func value(_ name: String, in block: [[UInt8]]) -> String? {
        let prefix = Array((name + "=").utf8)
        return block.last { $0.starts(with: prefix) }.map {
            String(decoding: $0.dropFirst(prefix.count), as: UTF8.self)
        }
    }

    package static func entry(_ name: String, _ value: some CustomStringConvertible) -> [UInt8] {
        Array("\(name)=\(value)".utf8)
    }
}
