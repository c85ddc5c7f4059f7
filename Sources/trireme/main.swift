import ContainerLaunch
import Glibc

exit(Launcher.run(count: Int(CommandLine.argc), arguments: CommandLine.unsafeArgv))
