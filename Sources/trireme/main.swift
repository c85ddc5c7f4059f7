import ContainerLaunch
import Glibc

// What `launchEarly` left: the launches that need Swift's runtime.
exit(Launcher.run(count: Int(CommandLine.argc), arguments: CommandLine.unsafeArgv, stage: .complete) ?? 125)
