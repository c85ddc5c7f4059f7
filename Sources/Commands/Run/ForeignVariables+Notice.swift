import CLinux
import ContainerLaunch
import LaunchPlan

extension ForeignVariables {
    /// What the launcher would take of the caller's variables, for a launch that is planned here.
    static var honouredOptions: LaunchPlan.Options { ForeignSurvey(UnsafePointer(linux_environ())).options }

    /// The line about the caller's variables that do nothing here; empty when there are none.
    static func notices(for verb: Answer) -> [String] {
        ForeignSurvey(UnsafePointer(linux_environ()), for: verb).notice.map { [String(cString: $0)] } ?? []
    }
}
