import ArgumentParser
import Diagnostics
import LaunchPlan

/// Devices: GPUs, fabrics and single device nodes, with the host libraries that drive them.
struct DeviceOptions: ContainerOptionGroup {
    static let longNames: [String] = []

    func apply(to plan: inout LaunchPlan, in context: LaunchContext) throws(Diagnostic) {}
}
