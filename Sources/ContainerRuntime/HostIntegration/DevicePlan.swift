import Diagnostics
import LaunchPlan

/// What device options add to a launch: mounts, variables, libraries, and things to tell the user.
package struct DevicePlan {
    package var mounts: [LaunchPlan.Mount] = []
    /// Name and value, in order.
    package var variables: [(name: String, value: String)] = []
    package var libraries: LibraryInjection
    /// One line each: what was chosen, what was left out and why.
    package var notes: [String] = []
    private let root: HostRoot

    package init(host: HostLibraries, image: ImageLibraries) {
        libraries = LibraryInjection(host: host, image: image)
        root = host.root
    }

    /// `path` of the host at the same place inside.
    package mutating func show(_ path: String, at destination: String? = nil, readOnly: Bool = false) {
        let place = destination ?? path
        guard !mounts.contains(where: { $0.destination == place }) else { return }
        mounts.append(.init(source: root.outside(path), destination: place, isReadOnly: readOnly))
    }

    package func apply(to plan: inout LaunchPlan) {
        plan.mounts += mounts.filter { mount in !plan.mounts.contains { $0.destination == mount.destination } }
        libraries.apply(to: &plan)
        for (name, value) in variables { plan.overrides.append(Array("\(name)=\(value)".utf8)) }
    }
}
