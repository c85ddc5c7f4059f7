/// Everything the kernel must be told to start one container.
///
/// Two makers, one reader. The image store compiles one per image when the image
/// enters the store (image facts only); a planner (`ContainerRuntime`) makes a
/// finished one with mounts, files and a command. `ContainerLaunch` reads the
/// encoded form in place (`LaunchPlanReader`) without building this value.
///
/// Argument and environment strings are bytes, not `String`: they reach the
/// application exactly as the image's author or the user wrote them.
package struct LaunchPlan: Equatable, Sendable {
    /// Unpacked layers, topmost first: absolute paths, or paths relative to the
    /// store's root directory. One layer is bound, more are stacked by overlayfs.
    package var layers: [String] = []
    /// `K=V` entries of the image (OCI image-spec config.md, `Env`).
    package var environment: [[UInt8]] = []
    /// `K=V` entries that win over the host's and the image's (`-e`).
    package var overrides: [[UInt8]] = []
    package var entrypoint: [[UInt8]] = []
    package var command: [[UInt8]] = []
    /// Empty when the image names none.
    package var workingDirectory: [UInt8] = []
    /// The image's `User`, as written.
    package var user: [UInt8] = []
    /// What `user` resolves to through the image's own /etc/passwd and /etc/group.
    package var userID: UInt32?
    package var groupID: UInt32?
    package var stopSignal: [UInt8] = []
    /// Paths known to exist in the root as ready mount points. When every
    /// destination of a launch is among them the root needs no writable upper layer.
    package var mountPoints: [String] = []
    /// The uid for whose account /etc/passwd and /etc/group were prepared in the
    /// top layer; nil when they are the image's own.
    package var preparedForUID: UInt32?
    /// The name the user knows the image by, and its manifest digest.
    package var imageName: String = ""
    package var imageDigest: String = ""
    /// A single-file image, as an absolute path; `layers` is then `["."]`, the root of that file.
    package var imageFile: String = ""
    /// Further mounts, in order.
    package var mounts: [Mount] = []
    /// Small files that appear in the root, in order (`/etc/hosts` of a job).
    package var files: [File] = []
    /// Binds as they were typed (`SRC[:DST[:OPTIONS]][,…]`), sources relative to the caller's directory:
    /// one grammar, read by the launcher wherever a bind comes from.
    package var binds: [[UInt8]] = []
    /// A directory that keeps what is written to the root; empty for none.
    package var overlay: [UInt8] = []
    /// Namespaces of its own besides user and mount: CLONE_NEW* bits (linux/sched.h).
    package var unshare: UInt32 = 0
    /// The name of the container's machine; needs the UTS namespace. Empty for the host's.
    package var hostName: [UInt8] = []
    /// `INSIDE OUTSIDE COUNT …` for newuidmap(1) and newgidmap(1); empty: one id, mapped by ourselves.
    package var uidMap: [UInt8] = []
    package var gidMap: [UInt8] = []
    /// How many descriptors from 3 on reach the application; nil: all that are no directories.
    package var keptDescriptors: UInt32?
    /// Milliseconds after which the container is stopped; nil: never.
    package var timeout: UInt32?
    /// Milliseconds between the stop signal and SIGKILL; nil: ten seconds.
    package var grace: UInt32?
    /// The number of the signal that stops it; nil: SIGTERM.
    package var stopSignalNumber: UInt32?
    /// How many process ids of a pid namespace of its own are passed over before the application gets one; in a
    /// job's plan, for each rank before it on its node.
    package var skippedIDs: UInt32 = 0
    package var options: Options = []
    /// Limits that control groups enforce, `NAME=VALUE` (`CgroupLimits.take`): bytes, thousandths, counts, lists.
    package var limits: [String] = []
    /// Limits of processes, `NUMBER SOFT HARD` as setrlimit(2) takes them; 2^64-1 is no limit.
    package var resourceLimits: [String] = []
    /// Bytes of a private /dev/shm; nil leaves the host's.
    package var sharedMemory: UInt64?

    package init() {}

    /// One mount: `source` on the host bound at `destination` in the root.
    package struct Mount: Equatable, Sendable {
        /// A path of the host; of a tmpfs its options (`mode=1777,size=64m`); of stacked layers their
        /// paths, topmost first, between colons.
        package var source: String
        package var destination: String
        package var isReadOnly: Bool
        /// A source that does not exist is skipped instead of being an error.
        package var isOptional: Bool
        /// An empty tmpfs at `destination` (mode 0755 where `source` does not say).
        package var isTemporary: Bool
        /// The user asked for it: places that other programs trust are refused, and set-id bits and
        /// device nodes below it mean nothing.
        package var isUserRequest = false
        /// Nothing below it can be executed.
        package var isNotExecutable = false
        /// What is mounted below the source stays out.
        package var isWithoutSubmounts = false
        /// `source` names directories that are stacked, read-only.
        package var isStack = false
        /// `source` is a single-file image, whose files are shown read-only.
        package var isImageFile = false
        package init(
            source: String, destination: String, isReadOnly: Bool = false, isOptional: Bool = false,
            isTemporary: Bool = false
        ) {
            self.source = source
            self.destination = destination
            self.isReadOnly = isReadOnly
            self.isOptional = isOptional
            self.isTemporary = isTemporary
        }
    }

    /// A file whose content the plan carries.
    package struct File: Equatable, Sendable {
        package var destination: String
        package var content: [UInt8]
        package init(destination: String, content: [UInt8]) {
            self.destination = destination
            self.content = content
        }
    }

    package struct Options: OptionSet, Sendable {
        package let rawValue: UInt32
        package init(rawValue: UInt32) { self.rawValue = rawValue }

        // The library's own are generic: called from another module they touch thirty pages of the runtime,
        // a tenth of a launch.
        package func contains(_ member: Options) -> Bool { rawValue & member.rawValue == member.rawValue }
        package func union(_ other: Options) -> Options { Options(rawValue: rawValue | other.rawValue) }

        /// A tmpfs upper layer that can be written to and vanishes with the container.
        package static let writable = Options(rawValue: 1)
        /// Nothing of the caller's environment is passed on.
        package static let cleanEnvironment = Options(rawValue: 2)
        /// The image's user is shown inside, mapped onto the caller.
        package static let imageUser = Options(rawValue: 4)
        /// The caller's home and working directory are not mounted.
        package static let noHome = Options(rawValue: 8)
        /// `/tmp` and `/var/tmp` are the container's own and vanish with it.
        package static let privateTemporary = Options(rawValue: 0x10)
        /// Image fact: it has no time zone database, so a zone's name in TZ would mean UTC.
        package static let lacksTimeZones = Options(rawValue: 0x20)
        /// Image fact: it has no locales but C and POSIX.
        package static let lacksLocales = Options(rawValue: 0x40)
        /// Image fact: apptainer's environment scripts are read before the command is executed.
        package static let environmentScripts = Options(rawValue: 0x80)
        /// The container starts without our filter of system calls.
        package static let withoutFilter = Options(rawValue: 0x100)
        /// Nothing of the host's files: system directories are made anew or masked.
        package static let isolated = Options(rawValue: 0x200)
        /// uid 0 is shown inside, with the capabilities that package managers need over the own ids.
        package static let fakeRoot = Options(rawValue: 0x400)
        /// A /dev with the harmless devices only.
        package static let minimalDevices = Options(rawValue: 0x800)
        /// A limit that cannot be enforced is a warning instead of a failure.
        package static let relaxedLimits = Options(rawValue: 0x100000)
        /// The application gets a terminal of its own, which the caller's is connected to.
        package static let ownTerminal = Options(rawValue: 0x10000)
    }
}
