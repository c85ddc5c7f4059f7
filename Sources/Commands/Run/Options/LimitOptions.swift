import ArgumentParser
import Diagnostics
import LaunchPlan

/// Limits: how much of the machine the container may take.
struct LimitOptions: ContainerOptionGroup {
    static let longNames: [String] = []

    func apply(to plan: inout LaunchPlan, in context: LaunchContext) throws(Diagnostic) {}
}
