import Processes
import ResourceManagers

extension EnvironmentBlock {
    /// This process's own, as commands of the batch system get it: without what would be options to them.
    static func forCommands() -> [[UInt8]] {
        current().filter { Detection.passesToCommands(String(decoding: name($0), as: UTF8.self)) }
    }
}
