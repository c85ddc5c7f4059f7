// swift-tools-version: 6.2
// The targets, one line of purpose each. Imports point down, never across the
// two halves (container: knows no jobs; job: knows no images); Tests/TidyTests
// checks that. Documentation/Tour.md walks them in the order of understanding.
import PackageDescription

let strict: [SwiftSetting] = [
    .treatAllWarnings(as: .error),
    .enableUpcomingFeature("ExistentialAny"),
    .enableUpcomingFeature("MemberImportVisibility"),
]

let argumentParser: Target.Dependency = .product(name: "ArgumentParser", package: "swift-argument-parser")
let crypto: Target.Dependency = .product(name: "Crypto", package: "swift-crypto")
let httpClient: Target.Dependency = .product(name: "AsyncHTTPClient", package: "async-http-client")
let nioCore: Target.Dependency = .product(name: "NIOCore", package: "swift-nio")
let nioPosix: Target.Dependency = .product(name: "NIOPosix", package: "swift-nio")
let nioHTTP1: Target.Dependency = .product(name: "NIOHTTP1", package: "swift-nio")
let nioSSL: Target.Dependency = .product(name: "NIOSSL", package: "swift-nio-ssl")

func target(_ name: String, _ dependencies: [Target.Dependency] = []) -> Target {
    .target(name: name, dependencies: dependencies, swiftSettings: strict)
}
func tests(_ name: String, _ dependencies: [Target.Dependency], resources: [Resource] = []) -> Target {
    .testTarget(
        name: name, dependencies: dependencies + ["TestSupport"], resources: resources, swiftSettings: strict)
}

let package = Package(
    name: "trireme",
    products: [
        .executable(name: "trireme-cli", targets: ["trireme-cli"]),
        .executable(name: "trireme-agent", targets: ["trireme-agent"]),
        .executable(name: "trireme-mount", targets: ["trireme-mount"]),
    ],
    dependencies: [
        .package(url: "https://github.com/apple/swift-argument-parser", from: "1.8.2"),
        .package(url: "https://github.com/apple/swift-crypto", from: "4.5.2"),
        .package(url: "https://github.com/swift-server/async-http-client", from: "1.37.0"),
        .package(url: "https://github.com/apple/swift-nio", from: "2.86.0"),
        .package(url: "https://github.com/apple/swift-nio-ssl", from: "2.30.0"),
    ],
    targets: [
        // L0: C, and how a failure is said.
        .target(name: "CLinux"),  // system calls Swift cannot make
        .systemLibrary(
            name: "CCompression",  // zlib and zstd
            providers: [.apt(["zlib1g-dev", "libzstd-dev"])]),
        .systemLibrary(name: "CYAML", providers: [.apt(["libyaml-dev"])]),  // YAML of device specifications
        target("Diagnostics"),  // one error type, one renderer, the exit codes

        // L1: values and the kernel.
        target("LinuxSystem", ["CLinux"]),  // descriptors, namespaces, mounts, netlink, spawning
        target("Processes", ["LinuxSystem", "CLinux"]),  // programs started, their environment and what they print
        target("Quantities"),  // sizes and times as people type them
        target("OCIModel"),  // references, digests, manifests, configurations
        target("RegistryWire", ["OCIModel"]),  // the distribution API's words: routes, queries, ranges, challenges
        target("LaunchPlan"),  // everything the kernel is told to start one container
        target("JobModel"),  // tasks, nodes, host lists, exit status
        target("SiteConfiguration", ["LinuxSystem"]),  // where state, stores and programs are
        target("HostCheck", ["LinuxSystem", "CLinux", "SiteConfiguration"]),  // is this host ready

        target("Telemetry", ["JobModel", "LinuxSystem"]),  // a job's append-only record, written and read

        // L2
        target("CoordinationStore"),  // keys under leases: the job's own store
        target(
            "EtcdStore",  // etcd's client, for who would rather have the keys there
            ["CoordinationStore", "LinuxSystem", "CLinux", httpClient, nioCore, nioHTTP1, nioSSL]),
        target("ContainerLaunch", ["LaunchPlan", "LinuxSystem", "CLinux"]),  // the hot path: steps, then execve
        target("ImageFormats", ["CCompression", "CLinux", "LinuxSystem"]),  // tar, archives
        target("ResourceManagers", ["JobModel", "Diagnostics", "Quantities"]),  // allocations: Slurm, this machine

        target("ProcessManagement"),  // PMI-1 and PMI-2 for ranks: wire engines without sockets
        target("ImageMount", ["ImageFormats", "LinuxSystem", "CLinux"]),  // a single-file image served by FUSE

        target("JobNetwork", ["LinuxSystem", "CLinux"]),  // subnets of jobs, and the tunnels between their nodes

        // L3
        target(
            "ImageStore",  // an OCI layout, unpacked layers, a ready plan per image
            ["ImageFormats", "OCIModel", "LaunchPlan", "LinuxSystem", "CLinux", "Diagnostics", crypto]),
        target("Orchestrator", ["JobModel", "Diagnostics"]),  // the job's pure state machine

        target(
            "RegistryClient",  // the distribution protocol: pull, push, and a registry of one's own
            [
                "ImageStore", "ImageFormats", "RegistryWire", "OCIModel", "Processes", "LinuxSystem", "CLinux",
                "Diagnostics",
                crypto,
                httpClient, nioCore, nioPosix, nioHTTP1, nioSSL,
            ]),

        // L4, L5
        target(
            "ContainerRuntime",  // image + command line + host -> launch plan; which MPI an image speaks
            [
                "ImageStore", "ImageFormats", "OCIModel", "LaunchPlan", "LinuxSystem", "CLinux", "CYAML", "Diagnostics",
                "Quantities", "Processes",
            ]),
        target(
            "JobWire",  // frames between a job's leader, its agents and who controls it
            ["JobModel", "Processes", "LinuxSystem", "CLinux", crypto]),
        target(
            "NodeAgent",  // what one node does for a job
            [
                "ContainerLaunch", "LaunchPlan", "JobModel", "JobNetwork", "JobWire", "ProcessManagement",
                "Processes", "LinuxSystem", "CLinux",
            ]),
        target(
            "VirtualCluster",  // nodes, bridge, real Slurm on one machine, without root
            ["JobNetwork", "Processes", "LinuxSystem", "CLinux", "SiteConfiguration", "Diagnostics"]),

        // L6 and the programs.
        target(
            "Commands",  // <Noun>/<Noun><Verb>.swift, composition root, one output door
            [
                "ContainerRuntime", "RegistryClient", "ContainerLaunch", "ImageStore", "ImageFormats", "OCIModel",
                "LaunchPlan",
                "JobModel", "JobNetwork", "ResourceManagers",
                "Telemetry", "CoordinationStore", "EtcdStore", "Orchestrator", "JobWire", "NodeAgent", "VirtualCluster",
                "HostCheck",
                "SiteConfiguration", "Quantities", "Processes",
                "LinuxSystem",
                "CLinux",
                "Diagnostics",
                argumentParser,
            ]),
        // `trireme` itself, without Swift's runtime, is built by Scripts/build-launcher.
        .executableTarget(name: "trireme-cli", dependencies: ["Commands"], swiftSettings: strict),
        .executableTarget(name: "trireme-agent", dependencies: ["NodeAgent", "CLinux"], swiftSettings: strict),
        .executableTarget(name: "trireme-mount", dependencies: ["ImageMount"], swiftSettings: strict),

        .target(
            name: "TestSupport", dependencies: ["CLinux", "ContainerLaunch", "LinuxSystem"], path: "Tests/TestSupport",
            swiftSettings: strict),
        tests("QuantitiesTests", ["Quantities"]),
        tests("DiagnosticsTests", ["Diagnostics"]),
        .target(name: "SeccompProbe", path: "Tests/SeccompProbe"),  // system calls behind a filter, in C
        tests("SeccompProfileTests", ["LinuxSystem", "SeccompProbe"]),
        tests("CgroupTests", ["LinuxSystem"]),
        tests("HostCheckTests", ["HostCheck", "LinuxSystem"]),
        tests("TidyTests", ["Diagnostics"]),  // the tree's own rules
        tests("LaunchPlanTests", ["LaunchPlan"]),
        tests("VirtualClusterTests", ["VirtualCluster", "LinuxSystem"]),
        tests("ClusterTests", ["LinuxSystem"]),
        .executableTarget(
            name: "EntryProbe", dependencies: ["ContainerLaunch"], path: "Tests/EntryProbe", swiftSettings: strict),
        .executableTarget(
            name: "ReadProbe", dependencies: ["ImageFormats"], path: "Tests/ReadProbe", swiftSettings: strict),
        tests("ContainerLaunchTests", ["ContainerLaunch", "LaunchPlan", "LinuxSystem"]),
        tests("IntegrationTests", ["CLinux", "ContainerLaunch", "LaunchPlan", "LinuxSystem"]),
        tests("EscapeTests", ["LaunchPlan"]),  // attempts to get out of a container
        tests("PeerReferenceTests", []),  // the same cases by other tools, then by ours
        tests("OCIModelTests", ["OCIModel"]),
        tests("JobModelTests", ["JobModel"]),
        tests("JobNetworkTests", ["JobNetwork", "LinuxSystem", "CLinux"]),
        tests("ResourceManagersTests", ["ResourceManagers", "JobModel", "Diagnostics"]),
        tests("TelemetryTests", ["Telemetry", "JobModel"]),
        tests("CoordinationStoreTests", ["CoordinationStore"]),
        tests("EtcdStoreTests", ["EtcdStore"]),
        tests("ProcessManagementTests", ["ProcessManagement"]),
        tests("OrchestratorTests", ["Orchestrator", "JobModel", "Diagnostics"]),
        tests("ProcessesTests", ["Processes", "LinuxSystem"]),
        tests("JobWireTests", ["JobWire", "Processes", "JobModel", "LinuxSystem", "CLinux"]),
        tests(
            "NodeAgentTests",
            ["NodeAgent", "JobWire", "Processes", "ContainerLaunch", "JobModel", "LinuxSystem", "CLinux"]),
        tests("RegistryClientTests", ["RegistryClient", "RegistryWire", "OCIModel", "Diagnostics"]),
        tests("RegistryTests", ["ImageStore", "OCIModel", crypto]),  // the real programs against registries, sound and not
        tests("ImageFormatsTests", ["ImageFormats", "LinuxSystem", "CLinux"]),
        tests(
            "ContainerRuntimeTests",
            ["ContainerRuntime", "ImageStore", "ImageFormats", "OCIModel", "LaunchPlan", "Diagnostics"]),
    ],
    swiftLanguageModes: [.v6]
)
