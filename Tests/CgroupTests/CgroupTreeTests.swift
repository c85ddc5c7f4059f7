import Testing

@testable import LinuxSystem

/// What the lines of /proc/self/mountinfo and /proc/self/cgroup mean, machine by machine.
@Suite struct CgroupTreeTests {
    @Test func version2UnderSystemd() {
        let tree = CgroupTree(
            mounts: [
                "24 30 0:22 / /proc rw - proc proc rw",
                "35 24 0:29 / /sys/fs/cgroup rw,nosuid,nodev,noexec,relatime shared:9 - cgroup2 cgroup2 rw,nsdelegate",
            ], own: ["0::/user.slice/user-1000.slice/user@1000.service/app.slice/run-1.scope"])
        #expect(tree.mode == .v2)
        #expect(
            tree.unified?.directory
                == "/sys/fs/cgroup/user.slice/user-1000.slice/user@1000.service/app.slice/run-1.scope")
        #expect(tree.legacy("memory") == nil)
    }

    @Test func version1OfABatchNode() {
        let tree = CgroupTree(
            mounts: [
                "31 23 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw",
                "32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct",
                "35 31 0:32 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory",
                "36 31 0:33 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,name=systemd",
            ],
            own: [
                "4:memory:/slurm/uid_7/job_3/step_0", "2:cpu,cpuacct:/slurm/uid_7", "1:name=systemd:/system.slice",
            ])
        #expect(tree.mode == .v1)
        #expect(tree.legacy("memory")?.directory == "/sys/fs/cgroup/memory/slurm/uid_7/job_3/step_0")
        #expect(tree.legacy("cpuacct")?.directory == "/sys/fs/cgroup/cpu,cpuacct/slurm/uid_7")
        #expect(tree.legacy("pids") == nil)
        #expect(tree.unified == nil)
    }

    @Test func bothSideBySide() {
        let tree = CgroupTree(
            mounts: [
                "35 31 0:32 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory",
                "41 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw",
            ], own: ["4:memory:/a", "0::/b"])
        #expect(tree.mode == .hybrid)
        #expect(tree.legacy("memory")?.directory == "/sys/fs/cgroup/memory/a")
        #expect(tree.unified?.directory == "/sys/fs/cgroup/unified/b")
    }

    @Test func systemdAloneBesideVersion2LimitsNothing() {
        let tree = CgroupTree(
            mounts: [
                "40 31 0:37 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,name=systemd",
                "41 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw",
            ], own: ["1:name=systemd:/", "0::/"])
        #expect(tree.mode == .v2)
    }

    @Test func none() {
        let tree = CgroupTree(
            mounts: ["24 30 0:22 / /proc rw - proc proc rw", "", "garbage - cgroup"], own: ["x", ""])
        #expect(tree.mode == .none)
        #expect(tree.hierarchies.isEmpty)
    }

    /// docker without a cgroup namespace mounts the container's part; the caller's path begins with it.
    @Test func nestedContainerWithItsPartMounted() {
        let tree = CgroupTree(
            mounts: ["35 24 0:29 /docker/abc /sys/fs/cgroup/memory ro - cgroup cgroup rw,memory"],
            own: ["4:memory:/docker/abc/inner"])
        #expect(tree.legacy("memory")?.directory == "/sys/fs/cgroup/memory/inner")
    }

    /// A part that is not the caller's: nothing can be made there, and nothing must be guessed.
    @Test func nestedContainerWithAForeignPart() {
        let tree = CgroupTree(
            mounts: ["35 24 0:29 /docker/other /sys/fs/cgroup rw - cgroup2 cgroup rw"], own: ["0::/docker/abc"])
        #expect(tree.mode == .v2)
        #expect(tree.unified?.directory == nil)
        var limits = CgroupLimits()
        limits.memory = 64 << 20
        #expect(
            throws: CgroupRefusal(option: "--memory", reason: "this process's own control group is not visible here")
        ) {
            try ControlGroup.make(limits, in: tree)
        }
    }

    @Test func refusedWithoutAnyHierarchy() {
        var limits = CgroupLimits()
        limits.processes = 5
        #expect(throws: CgroupRefusal(option: "--pids-limit", reason: "no control groups are mounted")) {
            try ControlGroup.make(limits, in: CgroupTree(mounts: [], own: []))
        }
    }
}
