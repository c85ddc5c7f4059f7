import Diagnostics
import JobModel

/// Which batch system's allocation this process stands in.
package enum Detection {
    /// Nil outside any allocation.
    ///
    /// - Parameter environment: looks a variable up.
    /// - Throws: a `Diagnostic` when the variables of an allocation contradict each other.
    package static func allocation(environment: (String) -> String?) throws(Diagnostic) -> Allocation? {
        try SlurmEnvironment.allocation(environment)
    }
}
