import Foundation
import LinuxSystem
import TestSupport
import Testing

/// What the host's kernel refuses, grants or lacks is the same inside, and what stops a launch is said by name.
@Suite(.serialized) struct RunHostRulesTests {
    let store: HandmadeStore

    init() throws { store = try HandmadeStore() }

    private var environment: [String: String?] { ["TRIREME_STORE": store.path, "HOME": store.home] }

    private func probe(_ words: String...) throws -> ProgramRun {
        try runProgram([store.path + "/layers/base/bin/probe"] + words)
    }

    /// Ports below `ip_unprivileged_port_start` take a privilege, which nobody has inside, root's name or not.
    @Test func lowPortsAreRefusedAsNatively() throws {
        let setting = try String(contentsOfFile: "/proc/sys/net/ipv4/ip_unprivileged_port_start", encoding: .utf8)
        let first = try #require(Int(setting.trimmingCharacters(in: .whitespacesAndNewlines)))
        if first > 80 {
            if geteuid() != 0 { #expect(try probe("port", "80").lines == ["EACCES"]) }
            for options in [[], ["--fakeroot-single"]] {
                let run = try runProgram(
                    [try Programs.path("trireme"), "run"] + options + ["prepared", "probe", "port", "80"],
                    environment: environment, directory: store.home)
                #expect(run.lines == ["EACCES"], "\(options): \(run.errorText)")
            }
        }
        // A network of its own has the kernel's own setting.
        let own = try store.trireme("run", "--unshare", "net", "prepared", "probe", "port", "80")
        #expect(own.lines == ["EACCES"], "\(own.errorText)")
        #expect(try store.trireme("run", "--unshare", "net", "prepared", "probe", "port", "1080").lines == ["bound"])
    }

    @Test func aFullRootInMemoryIsTheApplicationsToSee() throws {
        func run(_ words: String...) throws -> ProgramRun {
            try runProgram(
                [try Programs.path("trireme"), "run", "--writable-tmpfs", "prepared", "probe"] + words,
                environment: environment, directory: store.home)
        }
        // More than any machine's memory: the file system in memory says so at once.
        #expect(try run("reserve", "/large", "\(UInt64(1) << 50)").lines == ["ENOSPC"])
        #expect(try run("reserve", "/small", "4096").lines == ["reserved"])
    }

    @Test func programsOfANoexecDirectory() throws {
        let place = try TemporaryDirectory()
        let script = """
            mount -t tmpfs -o noexec,mode=1777 tmpfs "$1"; cp "$2" "$1/program"
            "$1/program" id; echo "host $?"
            "$0" run -B "$1:/tmp" prepared /tmp/program id; echo "container $?"
            """
        let run = try runProgram(
            [
                "unshare", "-U", "-r", "-m", "sh", "-c", script, try Programs.path("trireme"), place.path,
                store.path + "/layers/base/bin/probe",
            ], environment: environment, directory: store.home)
        #expect(run.lines == ["host 126", "container 126"], "\(run.errorText)")
        #expect(run.errorText.contains("/tmp/program: found, but it cannot be executed"))
        #expect(run.errorText.contains("noexec") && run.errorText.contains("[command-not-executable]"))
    }

    /// The batch system's grant is seen inside as outside: processors by the mask, memory by the group's files.
    @Test func grantsAreSeenInside() throws {
        let processor = ProcessorList.allowed().prefix(1).description
        let one = try runProgram(
            ["taskset", "-c", processor, try Programs.path("trireme"), "run", "prepared", "probe", "processors"],
            environment: environment, directory: store.home)
        #expect(one.lines == ["1"], "\(one.errorText)")
        #expect(
            try store.trireme("run", "prepared", "probe", "processors").lines == ["\(ProcessorList.allowed().count)"])
        let tree = CgroupTree.current()
        let files = [
            tree.legacy("memory")?.directory.map { $0 + "/memory.limit_in_bytes" },
            tree.legacy("cpuset")?.directory.map { $0 + "/cpuset.cpus" },
            tree.unified?.directory.map { $0 + "/memory.max" },
        ].compactMap { $0 }.filter { FileManager.default.isReadableFile(atPath: $0) }
        for file in files {
            let inside = try store.trireme("run", "prepared", "probe", "cat", file)
            #expect(inside.outputText == (try String(contentsOfFile: file, encoding: .utf8)), "\(file)")
        }
    }

    /// AppArmor (Ubuntu 23.10 and later) refuses the namespace, or makes it and then refuses what it is for.
    @Test(arguments: [(CallFilter.unshare, 1), (CallFilter.mount, 13)] as [(UInt32, Int32)])
    func appArmorIsNamed(call: UInt32, errno: Int32) throws {
        let setting = store.directory.path + "/restrict"
        try Data("1\n".utf8).write(to: URL(fileURLWithPath: setting))
        let name = "apparmor_restrict_unprivileged_userns"
        let run = try CallFilter(refusing: [call], errno: errno).run(
            [try Programs.path("trireme"), "run", "prepared", "true"],
            options: ["--tmpfs", "/proc/sys/kernel", "--ro-bind", setting, "/proc/sys/kernel/" + name],
            environment: environment, directory: store.home)
        #expect(run.status == 125 && run.output.isEmpty)
        #expect(run.errorText.contains("AppArmor forbids user namespaces here (kernel.\(name) = 1)"))
        #expect(run.errorText.contains("[no-user-namespaces]") && run.errorText.contains("sysctl -w kernel.\(name)=0"))
    }

    /// Kernels before 5.12 lack one of these; 4.18 lacks all.
    @Test(arguments: [
        [CallFilter.openTree, CallFilter.moveMount, CallFilter.mountSetattr], [CallFilter.mountSetattr],
        [CallFilter.moveMount],
    ])
    func anOldKernelIsNamed(calls: [UInt32]) throws {
        let run = try CallFilter(refusing: calls, errno: 38).run(
            [try Programs.path("trireme"), "run", "prepared", "true"], environment: environment, directory: store.home)
        #expect(run.status == 125 && run.output.isEmpty)
        #expect(run.errorText.contains("Linux 5.12") && run.errorText.contains("[kernel-too-old]"), "\(run.errorText)")
    }

    /// Whatever TZ says, and whether the zone exists anywhere.
    @Test func zonesOfTheImageStayAsTheyAre() throws {
        try store.write("layers/base/usr/share/zoneinfo/Etc/GMT-3", "the image's own")
        let zone = "/usr/share/zoneinfo/Etc/GMT-3"
        for options in [[], ["--writable-tmpfs"]] {
            for value in ["Etc/GMT-3", "No/Such/Zone", nil] {
                let run = try runProgram(
                    [try Programs.path("trireme"), "run"] + options + ["prepared", "probe", "cat", zone],
                    environment: environment.merging(["TZ": value]) { $1 }, directory: store.home)
                #expect(run.outputText == "the image's own", "\(run.errorText)")
            }
        }
    }
}
