import LaunchPlan
import Testing

/// The properties that the fuzzers of Fuzz/ check, on plans of a fixed seed.
@Suite struct RandomPlanTests {
    /// xorshift64*: the same plans in every run.
    private struct Generator: RandomNumberGenerator {
        var state: UInt64
        mutating func next() -> UInt64 {
            state ^= state >> 12
            state ^= state << 25
            state ^= state >> 27
            return state &* 0x2545_F491_4F6C_DD1D
        }
    }

    private func word(_ generator: inout Generator) -> [UInt8] {
        (0..<Int.random(in: 0...40, using: &generator)).map { _ in UInt8.random(in: 1...255, using: &generator) }
    }

    private func text(_ generator: inout Generator) -> String {
        String(decoding: word(&generator), as: UTF8.self)
    }

    private func plan(_ generator: inout Generator) -> LaunchPlan {
        var plan = LaunchPlan()
        func several<T>(_ make: (inout Generator) -> T) -> [T] {
            (0..<Int.random(in: 0...4, using: &generator)).map { _ in make(&generator) }
        }
        plan.layers = several(text)
        plan.environment = several(word)
        plan.overrides = several(word)
        plan.command = several(word)
        plan.mountPoints = several(text)
        plan.binds = several(word)
        plan.overlay = word(&generator)
        plan.userID = Bool.random(using: &generator) ? UInt32.random(in: 0...UInt32.max, using: &generator) : nil
        plan.options = LaunchPlan.Options(rawValue: UInt32.random(in: 0...UInt32.max, using: &generator))
        plan.mounts = several { generator in
            var mount = LaunchPlan.Mount(source: text(&generator), destination: text(&generator))
            mount.isReadOnly = Bool.random(using: &generator)
            mount.isOptional = Bool.random(using: &generator)
            mount.isTemporary = Bool.random(using: &generator)
            mount.isStack = Bool.random(using: &generator)
            mount.isNotExecutable = Bool.random(using: &generator)
            mount.isUserRequest = Bool.random(using: &generator)
            mount.isWithoutSubmounts = Bool.random(using: &generator)
            return mount
        }
        plan.files = several { LaunchPlan.File(destination: text(&$0), content: [0] + word(&$0)) }
        return plan
    }

    @Test func writtenPlansReadTheSame() throws {
        var generator = Generator(state: 20_260_101)
        for _ in 0..<2000 {
            let plan = plan(&generator)
            #expect(try LaunchPlan(decoding: plan.encoded()) == plan)
        }
    }

    @Test func damagedPlansAreRefusedOrReadTheSame() throws {
        var generator = Generator(state: 7)
        for _ in 0..<2000 {
            var bytes = try plan(&generator).encoded()
            for _ in 0..<Int.random(in: 1...6, using: &generator) {
                let place = Int.random(in: 0..<bytes.count, using: &generator)
                switch Int.random(in: 0...2, using: &generator) {
                case 0: bytes[place] = UInt8.random(in: 0...255, using: &generator)
                case 1: bytes.insert(0, at: place)
                default: bytes.removeLast(min(8, bytes.count - 1))
                }
            }
            guard let damaged = try? LaunchPlan(decoding: bytes) else { continue }
            let again = try LaunchPlan(decoding: damaged.encoded())
            #expect(try LaunchPlan(decoding: again.encoded()) == again)
        }
    }
}
