import FuzzerDriver
import LaunchPlan

/// Any bytes: refused, or a plan that says the same after it was written and read once more.
private func testOneInput(_ start: UnsafePointer<UInt8>?, _ count: Int) -> CInt {
    let bytes = Array(UnsafeBufferPointer(start: start, count: count))
    guard let plan = try? LaunchPlan(decoding: bytes) else { return 0 }
    guard let encoded = try? plan.encoded(), let again = try? LaunchPlan(decoding: encoded) else {
        fatalError("a plan that was read cannot be written")
    }
    // Text that is not UTF-8 is replaced once, and stays as it then is.
    guard let twice = try? LaunchPlan(decoding: again.encoded()), twice == again else {
        fatalError("a plan changed between writing and reading")
    }
    return 0
}

/// SwiftPM links this as the program's main.
@_cdecl("PlanFuzzer_main")
public func run(
    _ count: CInt, _ arguments: UnsafeMutablePointer<UnsafeMutablePointer<CChar>?>?
) -> CInt {
    var count = count
    var arguments = arguments
    return LLVMFuzzerRunDriver(&count, &arguments) { testOneInput($0, $1) }
}
