import Glibc
import LinuxSystem
import SeccompProbe
import Testing

private let native: SeccompProfile.Architecture = {
    #if arch(arm64)
        .arm64
    #else
        .x86
    #endif
}()

private let install: @convention(c) () -> Int32 = { SeccompProfile.install() }

@Suite struct SeccompTable {
    /// The constant installed by containers is the table, assembled; printed anew when it is not.
    @Test(arguments: [SeccompProfile.Architecture.x86, .arm64])
    func constantIsTheAssembledTable(architecture: SeccompProfile.Architecture) {
        let assembled = SeccompProfile.assembled(for: architecture)
        let constant =
            architecture == .x86
            ? SeccompProfile.x86Program.indices.map { SeccompProfile.x86Program[$0] }
            : SeccompProfile.arm64Program.indices.map { SeccompProfile.arm64Program[$0] }
        #expect(constant == assembled, "the program should be:\n\(assembled.map { "0x" + String($0, radix: 16) })")
    }

    /// The assembled program, run by an interpreter that knows nothing of the table, decides as the table does.
    @Test(arguments: [SeccompProfile.Architecture.x86, .i386, .arm64])
    func everyNumberIsDecidedAsTheTableSays(architecture: SeccompProfile.Architecture) {
        let program = SeccompProfile.assembled(for: architecture == .arm64 ? .arm64 : .x86)
        for number in UInt32(0)..<1024 {
            let refusal = SeccompProfile.refusals.first { $0.number(on: architecture) == Int32(number) }
            let expected: UInt32 = refusal == nil ? 0x7FFF_0000 : 0x0005_0001
            #expect(
                decision(of: program, architecture: architecture.rawValue, number: number) == expected,
                "call \(number)")
        }
    }

    @Test func foreignTablesAreClosed() {
        let x86 = SeccompProfile.assembled(for: .x86)
        let arm = SeccompProfile.assembled(for: .arm64)
        let killed: UInt32 = 0x8000_0000
        #expect(decision(of: x86, architecture: 0xC000_00B7, number: 0) == killed)
        #expect(decision(of: arm, architecture: 0x4000_0028, number: 0) == killed)  // AArch32
        #expect(decision(of: arm, architecture: 0xC000_003E, number: 0) == killed)
        #expect(decision(of: x86, architecture: 0xC000_003E, number: 0x4000_0000 | 39) == 0x0005_0026)  // x32: ENOSYS
    }

    @Test func noNumberTwice() {
        for architecture in [SeccompProfile.Architecture.x86, .i386, .arm64] {
            let numbers = SeccompProfile.refusals.compactMap { $0.number(on: architecture) }
            #expect(Set(numbers).count == numbers.count)
        }
    }

    /// Classic BPF, as much of it as the program uses.
    private func decision(of program: [UInt64], architecture: UInt32, number: UInt32, request: UInt32 = 0) -> UInt32 {
        var accumulator: UInt32 = 0
        var position = 0
        while position < program.count {
            let value = UInt32(program[position] >> 32)
            let (yes, no) = (Int(program[position] >> 16 & 0xFF), Int(program[position] >> 24 & 0xFF))
            switch program[position] & 0xFFFF {
            case 0x20: accumulator = value == 4 ? architecture : value == 0 ? number : request
            case 0x15: position += accumulator == value ? yes : no
            case 0x35: position += accumulator >= value ? yes : no
            case 0x25: position += accumulator > value ? yes : no
            case 0x06: return value
            default: return 0
            }
            position += 1
        }
        return 0
    }
}

/// What the kernel does behind the filter, asked in child processes.
@Suite(.serialized) struct SeccompBehaviour {
    private func outcome(_ calls: [probe_call], times: Int32 = 1) -> (end: Int32, results: [Int]) {
        var calls = calls
        let end = probe_calls(install, times, &calls, Int32(calls.count))
        return (end, calls.map(\.result))
    }
    /// The call with arguments the kernel itself would refuse, so that a hole in the filter does no harm.
    private func harmless(_ number: Int32, i386: Bool = false) -> probe_call {
        probe_call(
            number: Int(number), arguments: (-1, -1, -1, -1, -1, -1), through_i386: i386 ? 1 : 0, result: 12345)
    }

    @Test(arguments: [1, 2] as [Int32])
    func everyListedCallIsRefused(times: Int32) {
        let listed = SeccompProfile.refusals.filter { $0.number(on: native) != nil }
        let (end, results) = outcome(listed.map { harmless($0.number(on: native)!) }, times: times)
        #expect(end == 0)
        for (refusal, result) in zip(listed, results) {
            #expect(result == -1, "\(refusal.name)")
        }
    }

    @Test func orderDoesNotMatter() {
        let listed = SeccompProfile.refusals.filter { $0.number(on: native) != nil }.reversed()
        let (_, results) = outcome(listed.map { harmless($0.number(on: native)!) })
        for (refusal, result) in zip(listed, results) {
            #expect(result == -1, "\(refusal.name)")
        }
    }

    /// Without the filter some of the same calls are answered differently: the test above can fail.
    @Test func withoutTheFilterTheKernelAnswersOtherwise() {
        var calls = SeccompProfile.refusals.filter { ["keyctl", "userfaultfd", "add_key"].contains("\($0.name)") }
            .map { harmless($0.number(on: native)!) }
        #expect(probe_calls(nil, 0, &calls, Int32(calls.count)) == 0)
        #expect(calls.allSatisfy { $0.result != -1 })
    }

    #if arch(x86_64)
        @Test func theThirtyTwoBitEntryIsNoWayAround() {
            // getpid first: a kernel without IA32 emulation ends the child with SIGSEGV, and then there is no entry.
            let getpid = probe_call(number: 20, arguments: (0, 0, 0, 0, 0, 0), through_i386: 1, result: 0)
            let (probed, pids) = outcome([getpid])
            if probed == SIGSEGV { return }
            #expect(probed == 0 && pids[0] > 0)
            let listed = SeccompProfile.refusals.filter { $0.i386 != nil }
            let (end, results) = outcome(listed.map { harmless($0.i386!, i386: true) })
            #expect(end == 0)
            for (refusal, result) in zip(listed, results) {
                #expect(result == -1, "\(refusal.name)")
            }
        }

        @Test func theX32EntryIsClosed() {
            let (end, results) = outcome([harmless(0x4000_0000 | 39), harmless(0x4000_0000 | 250)])
            #expect(end == 0)
            #expect(results == [-38, -38])
        }
    #endif

    @Test func ordinaryProgramsNoticeNothing() {
        #expect(probe_ordinary(nil) == 0)
        #expect(probe_ordinary(install) == 0)
    }

    /// Calls that stay open give the same answer with and without the filter.
    @Test func openCallsAnswerAsWithoutTheFilter() {
        // perf_event_open, name_to_handle_at, process_madvise, kcmp, personality, move_pages, setns, chroot, adjtimex.
        let numbers: [Int32] =
            native == .x86
            ? [298, 303, 440, 312, 135, 279, 308, 161, 159] : [241, 264, 440, 272, 92, 239, 268, 51, 171]
        var without = numbers.map { harmless($0) }
        #expect(probe_calls(nil, 0, &without, Int32(without.count)) == 0)
        let (end, with) = outcome(numbers.map { harmless($0) })
        #expect(end == 0)
        #expect(with == without.map(\.result))
    }

    @Test(arguments: [0, 1, 0xFFFF_FFFF] as [UInt])
    func nothingIsTypedIntoTheTerminal(highHalf: UInt) {
        #expect(probe_terminal_injection(install, highHalf) == -EPERM)
    }

    /// What a call costs behind the filter. The kernel keeps a bitmap of calls that are always allowed
    /// (5.11), so that the program itself runs for ioctl and refused calls only.
    @Test func theCostPerCallIsSmall() {
        let (getppid, ioctl): (Int, Int) = native == .x86 ? (110, 16) : (173, 29)
        var best = [Double](repeating: .infinity, count: 4)
        for _ in 0..<7 {
            let round = [
                probe_nanoseconds(nil, getppid, 50_000), probe_nanoseconds(install, getppid, 50_000),
                probe_nanoseconds(nil, ioctl, 50_000), probe_nanoseconds(install, ioctl, 50_000),
            ]
            #expect(round.allSatisfy { $0 > 0 })
            best = zip(best, round).map { min($0, $1) }
        }
        print("getppid \(best[0]) -> \(best[1]) ns, ioctl \(best[2]) -> \(best[3]) ns")
        // Generous, for machines that do other work meanwhile.
        #expect(best[1] < best[0] * 2 + 300)
        #expect(best[3] < best[2] * 2 + 500)
    }
}
