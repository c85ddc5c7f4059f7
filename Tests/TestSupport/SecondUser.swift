import Foundation

/// Another ordinary account of this machine, when the tests were started so that there is one
/// (`Scripts/ordinary-user` as root): what one user can do to another is tried by two.
package let hasSecondUser = ProcessInfo.processInfo.environment["TRIREME_TEST_SECOND_USER"] != nil

/// Runs a command as the second account, in `/` and with an environment of its own.
///
/// - Throws: when there is none, or the command ran longer than a minute.
@discardableResult
package func asSecondUser(_ command: [String]) throws -> ProgramRun {
    guard let door = ProcessInfo.processInfo.environment["TRIREME_TEST_SECOND_USER"] else { throw NoSecondUser() }
    let script = URL(fileURLWithPath: #filePath).deletingLastPathComponent().path + "/../../Scripts/second-user"
    return try runProgram([script, "run", door] + command, limitSeconds: 90)
}

private struct NoSecondUser: Error {}
