/// How a process ended.
package enum ExitStatus: Equatable, Sendable {
    case exited(Int32)
    case signaled(Int32)

    /// What a shell would show: the code, or 128 + signal number.
    package var code: Int32 {
        switch self {
        case .exited(let code): code
        case .signaled(let number): 128 + number
        }
    }

    package var isSuccess: Bool { self == .exited(0) }
}

extension ExitStatus: CustomStringConvertible {
    /// `exited 42`, `was ended by signal 9 (KILL)`.
    package var description: String {
        switch self {
        case .exited(let code): "exited \(code)"
        case .signaled(let number):
            if let name = SignalName.of(number) {
                "was ended by signal \(number) (\(name))"
            } else {
                "was ended by signal \(number)"
            }
        }
    }
}

/// Signal numbers of Linux (signal(7)), the ones people meet.
package enum SignalName {
    private static let names: [Int32: String] = [
        1: "HUP", 2: "INT", 3: "QUIT", 4: "ILL", 6: "ABRT", 7: "BUS", 8: "FPE", 9: "KILL", 10: "USR1", 11: "SEGV",
        12: "USR2", 13: "PIPE", 14: "ALRM", 15: "TERM", 24: "XCPU", 25: "XFSZ",
    ]
    package static func of(_ number: Int32) -> String? { names[number] }
}
