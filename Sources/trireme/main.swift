import ContainerLaunch
import Glibc

/// One launch, or the handing over to `trireme-cli`. Built by `Scripts/build-launcher` as Embedded
/// Swift, which has no runtime and no `CommandLine`: the C library calls this.
@c(main)
func main(_ count: Int32, _ arguments: CStringVector) -> Int32 {
    Launcher.run(count: Int(count), arguments: arguments)
}
