import ContainerLaunch
import Glibc

/// A plain launch happens before the constructors of Swift's runtime, which cost a quarter of what the
/// kernel takes for the whole container: some twenty system calls (they look for a backtracer) and
/// as many pages. libc calls the functions of this section first, with main's arguments (elf(5),
/// DT_PREINIT_ARRAY); what needs the runtime falls through to main.
@used
@section(".preinit_array")
let launchEarly: @convention(c) (Int32, CStringVector, CStringVector) -> Void = { count, arguments, _ in
    if let status = Launcher.run(count: Int(count), arguments: arguments, stage: .beforeRuntime) { _exit(status) }
}
