import ArgumentParser
import Diagnostics
import ImageStore
import LaunchPlan
import SiteConfiguration

/// One group of container options (`Documentation/Reference/cli.md` has a section for each): what was
/// typed, and what that does to the image's launch plan.
///
/// The same groups serve one container here and every container of a parallel job, so an option that
/// works in one works in the other, or says in `apply` why it cannot.
protocol ContainerOptionGroup: ParsableArguments {
    /// Their long spellings, for near misses.
    static var longNames: [String] { get }

    /// Puts what was typed into `plan`.
    func apply(to plan: inout LaunchPlan, in context: LaunchContext) throws(Diagnostic)
}

/// What the options of a launch may look at.
struct LaunchContext {
    let image: StoredImage
    /// `run`, `exec` or `shell`.
    let verb: String
    /// The plan is for the nodes of a parallel job: paths are looked up there, not here.
    let isJob: Bool
    /// In which every rank has a container of its own.
    let hasOwnContainers: Bool
    let locations: Locations
    /// The caller's working directory; nil when it was removed.
    let directory: String?
}
