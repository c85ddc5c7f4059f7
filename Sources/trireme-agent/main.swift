import CLinux
import Glibc
import NodeAgent

// Bytes, not `CommandLine.arguments`: a rank's arguments need not be UTF-8.
let arguments = (0..<Int(CommandLine.argc)).map { index in
    let word = CommandLine.unsafeArgv[index]!
    return word.withMemoryRebound(to: UInt8.self, capacity: strlen(word)) {
        Array(UnsafeBufferPointer(start: $0, count: strlen(word)))
    }
}
exit(AgentProgram.main(arguments))
