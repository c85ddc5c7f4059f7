// swift-tools-version: 6.2
// Fuzzers of what reads bytes from outside, run by 'make fuzz'. The modules are the project's own
// (links), built here with the fuzzer's instrumentation: their `package` interface is visible only so.
import PackageDescription

let instrumented: [SwiftSetting] = [
    .unsafeFlags(["-sanitize=fuzzer", "-parse-as-library", "-enable-testing"]),
    .enableUpcomingFeature("ExistentialAny"),
    .enableUpcomingFeature("MemberImportVisibility"),
]
let linked: [LinkerSetting] = [.unsafeFlags(["-sanitize=fuzzer", "-use-ld=lld"])]

let package = Package(
    name: "trireme-fuzz",
    products: [
        .executable(name: "PlanFuzzer", targets: ["PlanFuzzer"]),
        .executable(name: "CommandLineFuzzer", targets: ["CommandLineFuzzer"]),
        .executable(name: "ArchiveFuzzer", targets: ["ArchiveFuzzer"]),
        .executable(name: "ImageTextFuzzer", targets: ["ImageTextFuzzer"]),
        .executable(name: "RegistryRequestFuzzer", targets: ["RegistryRequestFuzzer"]),
        .executable(name: "LeaderFrameFuzzer", targets: ["LeaderFrameFuzzer"]),
        .executable(name: "SquashFuzzer", targets: ["SquashFuzzer"]),
    ],
    targets: [
        .target(name: "CLinux"),
        .target(name: "FuzzerDriver"),
        .target(name: "Diagnostics", swiftSettings: instrumented),
        .target(name: "LinuxSystem", dependencies: ["CLinux"], swiftSettings: instrumented),
        .target(name: "LaunchPlan", swiftSettings: instrumented),
        .target(
            name: "ContainerLaunch", dependencies: ["LaunchPlan", "LinuxSystem", "CLinux"], swiftSettings: instrumented),
        .systemLibrary(name: "CCompression"),
        .target(name: "OCIModel", swiftSettings: instrumented),
        .target(
            name: "ImageFormats", dependencies: ["CCompression", "CLinux", "LinuxSystem"],
            swiftSettings: instrumented),
        .executableTarget(
            name: "ArchiveFuzzer", dependencies: ["ImageFormats", "FuzzerDriver"], swiftSettings: instrumented,
            linkerSettings: linked),
        .executableTarget(
            name: "ImageTextFuzzer", dependencies: ["OCIModel", "FuzzerDriver"], swiftSettings: instrumented,
            linkerSettings: linked),
        .target(name: "RegistryWire", dependencies: ["OCIModel"], swiftSettings: instrumented),
        .executableTarget(
            name: "RegistryRequestFuzzer", dependencies: ["RegistryWire", "OCIModel", "FuzzerDriver"],
            swiftSettings: instrumented, linkerSettings: linked),
        .target(name: "JobModel", swiftSettings: instrumented),
        .target(name: "Orchestrator", dependencies: ["JobModel", "Diagnostics"], swiftSettings: instrumented),
        .target(name: "Crypto"),  // in swift-crypto's place
        .target(name: "Processes", dependencies: ["LinuxSystem", "CLinux"], swiftSettings: instrumented),
        .target(
            name: "JobWire", dependencies: ["Crypto", "JobModel", "Processes", "LinuxSystem", "CLinux"],
            swiftSettings: instrumented),
        .executableTarget(
            name: "LeaderFrameFuzzer",
            dependencies: [
                "JobWire", "Orchestrator", "JobModel", "LinuxSystem", "CLinux", "Diagnostics", "FuzzerDriver",
            ],
            swiftSettings: instrumented, linkerSettings: linked),
        .target(
            name: "ImageMount", dependencies: ["ImageFormats", "LinuxSystem", "CLinux"], swiftSettings: instrumented),
        .executableTarget(
            name: "SquashFuzzer", dependencies: ["ImageMount", "ImageFormats", "FuzzerDriver"],
            swiftSettings: instrumented, linkerSettings: linked),
        .executableTarget(
            name: "PlanFuzzer", dependencies: ["LaunchPlan", "FuzzerDriver"], swiftSettings: instrumented,
            linkerSettings: linked),
        .executableTarget(
            name: "CommandLineFuzzer", dependencies: ["ContainerLaunch", "LaunchPlan", "FuzzerDriver"],
            swiftSettings: instrumented, linkerSettings: linked),
    ],
    swiftLanguageModes: [.v6]
)
