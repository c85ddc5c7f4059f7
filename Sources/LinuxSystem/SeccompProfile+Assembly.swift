/// Turns the table of refusals into classic BPF (Documentation/networking/filter.rst of the kernel).
///
/// Not used when a container starts: `SeccompProfile+Program.swift` holds the result as a constant
/// and a test compares the two.
extension SeccompProfile {
    /// The filter for a kernel whose native table is `native`: which table, then a binary search in it.
    package static func assembled(for native: Architecture) -> [UInt64] {
        var assembly = Assembly()
        let tables: [Architecture] = native == .x86 ? [.x86, .i386] : [.arm64]
        assembly.load(offset: 4)  // seccomp_data.arch
        for table in tables.dropLast() {
            assembly.jump(.equal, table.rawValue, then: .place(Int(table.rawValue)), otherwise: .next)
        }
        let last = tables[tables.count - 1]
        assembly.jump(.equal, last.rawValue, then: .place(Int(last.rawValue)), otherwise: .kill)
        for table in tables {
            assembly.mark(Int(table.rawValue))
            assembly.load(offset: 0)  // seccomp_data.nr
            if table == .x86 {
                // The x32 table: a second set of numbers for the same calls, which no distribution uses.
                assembly.jump(.greaterOrEqual, 0x4000_0000, then: .answer(.noSuchCall), otherwise: .next)
            }
            assembly.search(cases(of: table))
        }
        assembly.mark(Assembly.ioctlPlace)
        assembly.load(offset: 24)  // low word of seccomp_data.args[1]; the kernel ignores the high one
        for request in refusedTerminalRequests {
            assembly.jump(.equal, request, then: .answer(.notPermitted), otherwise: .next)
        }
        assembly.finish()
        return assembly.resolved()
    }

    private static func cases(of table: Architecture) -> [(UInt32, Assembly.Target)] {
        var cases = refusals.compactMap { refusal in
            refusal.number(on: table).map { (UInt32($0), Assembly.Target.answer(refusal.answer)) }
        }
        cases.append((UInt32(table.ioctl), .place(Assembly.ioctlPlace)))
        return cases.sorted { $0.0 < $1.0 }
    }

    /// Instructions with jumps to named places, resolved to distances at the end.
    private struct Assembly {
        static let ioctlPlace = 1

        enum Target: Hashable {
            case next
            case allow
            case kill
            case answer(Answer)
            case place(Int)
        }
        enum Comparison: UInt64 {
            case equal = 0x15  // BPF_JMP | BPF_JEQ | BPF_K
            case greaterOrEqual = 0x35  // BPF_JMP | BPF_JGE | BPF_K
        }
        private var instructions: [(code: UInt64, value: UInt32, then: Target, otherwise: Target)] = []
        private var positions: [Target: Int] = [:]

        mutating func load(offset: UInt32) {
            instructions.append((0x20, offset, .next, .next))  // BPF_LD | BPF_W | BPF_ABS
        }
        mutating func jump(_ comparison: Comparison, _ value: UInt32, then: Target, otherwise: Target) {
            instructions.append((comparison.rawValue, value, then, otherwise))
        }
        mutating func mark(_ place: Int) { positions[.place(place)] = instructions.count }

        /// A balanced tree of comparisons over `cases` (ascending); what matches none is allowed.
        mutating func search(_ cases: [(UInt32, Target)]) {
            if cases.count <= 3 {
                for (index, (number, target)) in cases.enumerated() {
                    jump(.equal, number, then: target, otherwise: index == cases.count - 1 ? .allow : .next)
                }
                return
            }
            let middle = cases.count / 2
            let right = Target.place(2 + instructions.count)
            jump(.greaterOrEqual, cases[middle].0, then: right, otherwise: .next)
            search(Array(cases[..<middle]))
            positions[right] = instructions.count
            search(Array(cases[middle...]))
        }

        /// The possible ends, SECCOMP_RET_* (seccomp(2)).
        mutating func finish() {
            let ends: [(Target, UInt32)] = [
                (.allow, 0x7FFF_0000),
                (.answer(.notPermitted), 0x0005_0000 | UInt32(Answer.notPermitted.rawValue)),
                (.answer(.noSuchCall), 0x0005_0000 | UInt32(Answer.noSuchCall.rawValue)),
                (.kill, 0x8000_0000),
            ]
            for (end, value) in ends {
                positions[end] = instructions.count
                instructions.append((0x06, value, .next, .next))  // BPF_RET | BPF_K
            }
        }

        /// struct sock_filter, little endian: code, jt, jf, k.
        func resolved() -> [UInt64] {
            instructions.enumerated().map { index, instruction in
                func distance(_ target: Target) -> UInt64 {
                    target == .next ? 0 : UInt64(UInt8(positions[target]! - index - 1))
                }
                return instruction.code | distance(instruction.then) << 16 | distance(instruction.otherwise) << 24
                    | UInt64(instruction.value) << 32
            }
        }
    }
}
