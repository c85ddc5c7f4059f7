import FuzzerDriver
import LaunchPlan

@testable import ContainerLaunch

/// Any words: understood, refused or handed on, and every bind is an absolute, clean path.
private func testOneInput(_ start: UnsafePointer<UInt8>?, _ count: Int) -> CInt {
    var bytes = Array("trireme\0run\0".utf8) + Array(UnsafeBufferPointer(start: start, count: count)) + [0]
    bytes.withUnsafeMutableBytes { raw in
        let text = raw.baseAddress!.assumingMemoryBound(to: CChar.self)
        let arguments = CStringVector.allocate(capacity: raw.count + 1)
        defer { arguments.deallocate() }
        var words = 0
        var isStart = true
        for index in 0..<raw.count {
            if isStart {
                arguments[words] = text + index
                words += 1
            }
            isStart = raw[index] == 0
        }
        arguments[words] = nil
        checkBinds(UnsafePointer(text) + 12)
        guard let line = try? LaunchCommandLine(count: words, arguments: arguments), line.outcome == .launch else {
            return
        }
        guard line.wordCount >= 0, line.words + line.wordCount == arguments + words else {
            fatalError("words were lost or made up")
        }
        var index = 0
        while let bind = line.request.binds[index] {
            checkBinds(bind)
            index += 1
        }
    }
    return 0
}

private func checkBinds(_ text: CString) {
    var binds = BindText(text, in: nil)
    var count = 0
    while true {
        guard let found = try? binds.next() else { return }
        count += 1
        guard count <= BindText.bound(text) else { fatalError("more binds than the text can hold") }
        guard found.destination[0] == slash, found.source[0] == slash, !isEqual(found.destination, "/") else {
            fatalError("a bind to a place that is none")
        }
    }
}

/// SwiftPM links this as the program's main.
@_cdecl("CommandLineFuzzer_main")
public func run(
    _ count: CInt, _ arguments: UnsafeMutablePointer<UnsafeMutablePointer<CChar>?>?
) -> CInt {
    var count = count
    var arguments = arguments
    return LLVMFuzzerRunDriver(&count, &arguments) { testOneInput($0, $1) }
}
