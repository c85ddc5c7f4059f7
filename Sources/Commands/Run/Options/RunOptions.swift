import ArgumentParser
import ContainerRuntime
import Diagnostics
import ImageStore
import LaunchPlan

/// The options of `run`, `exec` and `shell` as they were typed.
struct RunOptions: ParsableArguments {
    @OptionGroup(title: "Parallel jobs") var parallel: ParallelOptions
    @OptionGroup(title: "Files") var files: FileOptions
    @OptionGroup(title: "Environment") var environment: EnvironmentOptions
    @OptionGroup(title: "Isolation") var isolation: IsolationOptions
    @OptionGroup(title: "Limits") var limits: LimitOptions
    @OptionGroup(title: "Devices") var devices: DeviceOptions
    @OptionGroup(title: "Process") var process: ProcessOptions
    @OptionGroup(title: "Explain") var explain: ExplainOptions

    static let longNames =
        ParallelOptions.longNames + FileOptions.longNames + EnvironmentOptions.longNames + IsolationOptions.longNames
        + LimitOptions.longNames + DeviceOptions.longNames + ProcessOptions.longNames
        + ExplainOptions.longNames + ["--help"]

    /// The image's plan with everything typed about the container. Later groups see what earlier ones did.
    func plan(in context: LaunchContext) throws(Diagnostic) -> LaunchPlan {
        var plan = context.image.plan
        let groups: [any ContainerOptionGroup] = [isolation, files, devices, environment, limits, process]
        for group in groups { try group.apply(to: &plan, in: context) }
        LibraryInjection.finish(&plan)
        return plan
    }
}
