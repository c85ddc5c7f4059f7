import Glibc
import JobModel

/// This machine alone, for `-n` outside any allocation.
package enum LocalMachine {
    /// One node with as many slots as processors this process may use (sched_getaffinity(2)).
    package static func allocation(name: String, slots: Int) -> Allocation {
        Allocation(system: "local", jobID: "local", nodes: [.init(name: name, slots: slots)])
    }
}
