import Foundation
import Glibc
import LinuxSystem
import TestSupport
import Testing

@testable import HostCheck

@Suite struct ControlGroupTests {
    private let v2 = "29 23 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate"

    @Test func v2DelegatedToTheUser() {
        let groups = HostProbe.controlGroups(
            mounts: [v2], own: ["0::/user.slice/user-1000.slice/user@1000.service/app"],
            canWrite: { $0.hasPrefix("/sys/fs/cgroup/user.slice/user-1000.slice/user@1000.service") })
        #expect(groups.mode == .v2 && groups.isDelegated)
        #expect(groups.ownDirectory == "/sys/fs/cgroup/user.slice/user-1000.slice/user@1000.service/app")
    }

    @Test func v2DirectoryWithoutItsFilesIsNotDelegation() {
        let groups = HostProbe.controlGroups(
            mounts: [v2], own: ["0::/job"], canWrite: { !$0.hasSuffix("subtree_control") })
        #expect(groups.mode == .v2 && !groups.isDelegated)
    }

    @Test func v2ShownFromAnotherPlace() {
        // A container's mount shows a part of the tree; a group outside it cannot be reached.
        let part = "29 23 0:26 /docker/abc /sys/fs/cgroup ro - cgroup2 cgroup rw"
        let inside = HostProbe.controlGroups(mounts: [part], own: ["0::/docker/abc/x"], canWrite: { _ in true })
        #expect(inside.ownDirectory == "/sys/fs/cgroup/x")
        let outside = HostProbe.controlGroups(mounts: [part], own: ["0::/docker/abcd"], canWrite: { _ in true })
        #expect(outside.ownDirectory == nil && !outside.isDelegated)
    }

    private let v1 = [
        "33 25 0:29 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,xattr,name=systemd",
        "36 25 0:32 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct",
        "37 25 0:33 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory",
    ]
    private let own = ["5:memory:/slurm/uid_7", "4:cpu,cpuacct:/", "1:name=systemd:/user.slice", "0::/"]

    @Test func v1WritableInPart() {
        let groups = HostProbe.controlGroups(
            mounts: v1, own: own, canWrite: { $0 == "/sys/fs/cgroup/memory/slurm/uid_7" })
        #expect(groups.mode == .v1)
        #expect(groups.writableControllers == ["memory"])
    }

    @Test func bothIsHybridAndNeitherIsNone() {
        let unified = "40 25 0:40 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw"
        #expect(HostProbe.controlGroups(mounts: v1 + [unified], own: own, canWrite: { _ in false }).mode == .hybrid)
        #expect(HostProbe.controlGroups(mounts: [], own: own, canWrite: { _ in true }).mode == .none)
        // Only systemd's own hierarchy: no controller, nothing to limit with.
        #expect(HostProbe.controlGroups(mounts: [v1[0]], own: own, canWrite: { _ in true }).mode == .none)
    }
}

@Suite struct SchedulerProbeTests {
    @Test(arguments: [
        ("Slurm", "srun", "SLURM_JOB_ID"), ("PBS", "pbsdsh", "PBS_JOBID"), ("LSF", "blaunch", "LSB_JOBID"),
        ("Grid Engine", "qrsh", "JOB_ID"), ("HTCondor", "condor_submit", "_CONDOR_JOB_AD"),
        ("Flux", "flux", "FLUX_JOB_ID"),
    ])
    func eachIsFoundByCommandAndAllocation(name: String, launcher: String, variable: String) throws {
        let place = try TemporaryDirectory()
        let mark = name == "Grid Engine" ? ["SGE_TASK_ID": "undefined"] : [:]
        let inside = mark.merging([variable: "12.server", "PATH": "/nowhere:" + place.path]) { $1 }

        let bare = try #require(HostProbe.schedulers { inside[$0] }.first)
        #expect(bare.name == name && bare.job == "12.server" && !bare.launcherFound && bare.command == nil)

        try Data("#!/bin/sh\n".utf8).write(to: URL(fileURLWithPath: place.path + "/" + launcher))
        try runProgram(["chmod", "755", place.path + "/" + launcher])
        let found = HostProbe.schedulers { inside[$0] }
        #expect(found.count == 1 && found[0].launcherFound && found[0].job == "12.server")
    }

    @Test func aFileThatCannotBeExecutedIsNoCommand() throws {
        let place = try TemporaryDirectory()
        try Data("x".utf8).write(to: URL(fileURLWithPath: place.path + "/srun"))
        #expect(HostProbe.schedulers { $0 == "PATH" ? place.path : nil }.isEmpty)
    }
}

@Suite(.serialized) struct AttemptTests {
    @Test func tellsHowItEnded() {
        #expect(Attempt.inChild { () throws(SyscallError) in } == .worked)
        let refused = Attempt.inChild { () throws(SyscallError) in
            throw SyscallError("unshare", "user namespace", errno: EPERM)
        }
        #expect(refused == .failed(step: "unshare user namespace", errno: EPERM))
        #expect(refused.sentence == "unshare user namespace: operation not permitted")
        #expect(Attempt.inChild { () throws(SyscallError) in kill(getpid(), SIGKILL) } == .killed(signal: SIGKILL))
    }

    @Test func aHangingCallIsGivenUp() {
        let begin = ContinuousClock.now
        #expect(Attempt.inChild(limitSeconds: 1) { () throws(SyscallError) in sleep(60) } == .noAnswer(seconds: 1))
        #expect(ContinuousClock.now - begin < .seconds(20))
    }

    @Test func theNearestExistingDirectory() throws {
        let place = try TemporaryDirectory()
        #expect(HostProbe.nearestExisting(place.path + "/a/b/c") == place.path)
        #expect(HostProbe.nearestExisting(place.path) == place.path)
        #expect(HostProbe.nearestExisting("/nonexistent-anywhere") == "/")
    }
}

@Suite struct FileSystemKindTests {
    @Test(
        arguments: [
            (0x6969, "NFS", .network), (0x0BD0_0BD0, "Lustre", .network), (0x4750_4653, "GPFS", .network),
            (0x1983_0326, "BeeGFS", .network), (0xEF53, "ext4", .local), (0x5846_5342, "XFS", .local),
            (0x0102_1994, "tmpfs", .memory), (0x1234, "type 0x1234", .local),
        ] as [(UInt32, String, FileSystemKind.Reach)])
    func isToldByItsNumber(magic: UInt32, name: String, reach: FileSystemKind.Reach) {
        #expect(FileSystemKind(magic: magic).name == name)
        #expect(FileSystemKind(magic: magic).reach == reach)
    }
}
