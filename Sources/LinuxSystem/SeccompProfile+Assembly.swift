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
            var plan = SearchPlan(runs(of: table))
            assembly.search(plan.runs.indices, &plan)
        }
        assembly.mark(Assembly.ioctlPlace)
        assembly.load(offset: 24)  // low word of seccomp_data.args[1]; the kernel ignores the high one
        for request in refusedTerminalRequests {
            assembly.jump(.equal, request, then: .answer(.notPermitted), otherwise: .next)
        }
        assembly.finish()
        return assembly.resolved()
    }

    /// Ascending runs of adjacent refused numbers, and the run of ioctl alone.
    private static func runs(of table: Architecture) -> [Run] {
        let refused = refusals.compactMap { $0.number(on: table) }.sorted()
        var runs: [Run] = []
        for number in refused.map({ UInt32($0) }) {
            if let last = runs.last, last.last + 1 == number {
                runs[runs.count - 1].last = number
            } else {
                runs.append(Run(first: number, last: number, target: .answer(.notPermitted)))
            }
        }
        let ioctl = UInt32(table.ioctl)
        runs.append(Run(first: ioctl, last: ioctl, target: .place(Assembly.ioctlPlace)))
        if table == .x86 {
            // The x32 table: a second set of numbers for the same calls, which no distribution uses.
            runs.append(Run(first: 0x4000_0000, last: .max, target: .answer(.noSuchCall)))
        }
        return runs.sorted { $0.first < $1.first }
    }

    /// Numbers `first...last`, all with one end.
    private struct Run {
        var first: UInt32
        var last: UInt32
        var target: Assembly.Target

        /// Comparisons it takes to find out.
        var comparisons: Int { first == last || last == .max ? 1 : 2 }
    }

    /// Where to cut `runs[range]`, for the least time when the filter is installed: the kernel then
    /// translates every instruction and walks the program once for every number there is.
    private struct SearchPlan {
        /// Measured: translating an instruction costs as much as walking some 70.
        static let instructionCost = 70
        /// Numbers of a table; later kernels have a few more.
        static let numbers: UInt32 = 470
        let runs: [Run]
        private var known: [Range<Int>: (cost: Int, cut: Int?)] = [:]

        init(_ runs: [Run]) { self.runs = runs }

        /// `cut` nil: compare one run after the other.
        mutating func best(_ range: Range<Int>) -> (cost: Int, cut: Int?) {
            if let found = known[range] { return found }
            let low = range.lowerBound == 0 ? 0 : runs[range.lowerBound].first
            let high = range.upperBound == runs.count ? .max : runs[range.upperBound].first
            let width = Int(min(high, Self.numbers)) - Int(min(low, Self.numbers))
            let comparisons = runs[range].reduce(0) { $0 + $1.comparisons }
            var best: (cost: Int, cut: Int?) = (comparisons * (width + Self.instructionCost), nil)
            for cut in range.dropFirst() {
                let cost =
                    width + Self.instructionCost + self.best(range.lowerBound..<cut).cost
                    + self.best(cut..<range.upperBound).cost
                if cost < best.cost { best = (cost, cut) }
            }
            known[range] = best
            return best
        }
    }

    /// Instructions with jumps to named places, resolved to distances at the end.
    private struct Assembly {
        static let ioctlPlace = 1

        /// What a process is told: EPERM, or ENOSYS where the whole table does not exist.
        enum Answer: UInt32 {
            case notPermitted = 1
            case noSuchCall = 38
        }
        enum Target: Hashable {
            case next
            case allow
            case kill
            case answer(Answer)
            case place(Int)
        }
        enum Comparison: UInt64 {
            case equal = 0x15  // BPF_JMP | BPF_JEQ | BPF_K
            case greater = 0x25  // BPF_JMP | BPF_JGT | BPF_K
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

        /// A tree of comparisons over `plan.runs[range]`; a number in none of them is allowed.
        mutating func search(_ range: Range<Int>, _ plan: inout SearchPlan) {
            if let cut = plan.best(range).cut {
                let right = Target.place(2 + instructions.count)
                jump(.greaterOrEqual, plan.runs[cut].first, then: right, otherwise: .next)
                search(range.lowerBound..<cut, &plan)
                positions[right] = instructions.count
                search(cut..<range.upperBound, &plan)
                return
            }
            for index in range {
                let run = plan.runs[index]
                let missed = index == range.upperBound - 1 ? Target.allow : .next
                if run.first == run.last {
                    jump(.equal, run.first, then: run.target, otherwise: missed)
                } else if run.last == .max {
                    jump(.greaterOrEqual, run.first, then: run.target, otherwise: missed)
                } else {
                    jump(.greaterOrEqual, run.first, then: .next, otherwise: .allow)
                    jump(.greater, run.last, then: missed, otherwise: run.target)
                }
            }
        }

        /// The possible ends, SECCOMP_RET_* (seccomp(2)).
        mutating func finish() {
            let ends: [(Target, UInt32)] = [
                (.allow, 0x7FFF_0000),
                (.answer(.notPermitted), 0x0005_0000 | Answer.notPermitted.rawValue),
                (.answer(.noSuchCall), 0x0005_0000 | Answer.noSuchCall.rawValue),
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
