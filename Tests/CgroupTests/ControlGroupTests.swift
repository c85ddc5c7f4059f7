import Foundation
import TestSupport
import Testing

@testable import LinuxSystem

/// Groups made in a directory that looks like a control group file system: what is written where.
/// The kernel's part, that the values hold, is tested by LimitTests and in `make test-vm`.
@Suite struct ControlGroupTests {
    let directory: TemporaryDirectory
    init() throws { directory = try TemporaryDirectory() }

    private func write(_ name: String, _ text: String) throws {
        let path = directory.path + "/" + name
        try FileManager.default.createDirectory(
            atPath: (path as NSString).deletingLastPathComponent, withIntermediateDirectories: true)
        try text.write(toFile: path, atomically: false, encoding: .utf8)
    }

    private func unified(_ own: String) -> CgroupTree {
        CgroupTree(mounts: ["1 0 0:1 / \(directory.path) rw - cgroup2 cgroup2 rw"], own: ["0::" + own])
    }

    /// A delegated group: `processes` stand in it, `enabled` controllers are on for groups below.
    private func delegate(_ group: String, processes: [String], available: String, enabled: String) throws {
        try write(group + "/cgroup.procs", processes.joined(separator: "\n"))
        try write(group + "/cgroup.controllers", available)
        try write(group + "/cgroup.subtree_control", enabled)
        try write(group + "/cgroup.type", "domain")
    }

    private func place(_ own: String, _ controllers: [String]) throws(CgroupRefusal) -> UnifiedPlace {
        try UnifiedPlace.find(controllers, own: directory.path + own, point: directory.path, option: "--memory")
    }

    @Test func theOwnGroupWhenItsControllersAreOn() throws {
        try delegate("a", processes: ["1", "2"], available: "memory", enabled: "memory")
        #expect(
            try place("/a", ["memory"])
                == UnifiedPlace(parent: directory.path + "/a", missing: [], mustVacate: false))
    }

    @Test func theOwnGroupWhenTheCallerIsAloneInIt() throws {
        try delegate("a", processes: [String(getpid())], available: "cpu memory", enabled: "")
        #expect(
            try place("/a", ["memory"])
                == UnifiedPlace(parent: directory.path + "/a", missing: ["memory"], mustVacate: true))
    }

    @Test func theGroupAboveWhenOthersShareTheOwn() throws {
        try delegate("a", processes: [], available: "cpu memory", enabled: "cpu")
        try delegate("a/b", processes: ["1", "2"], available: "cpu", enabled: "")
        #expect(
            try place("/a/b", ["memory"])
                == UnifiedPlace(parent: directory.path + "/a", missing: ["memory"], mustVacate: false))
    }

    @Test func aLimitIsNotEscapedUpwards() throws {
        try delegate("a", processes: [], available: "cpu memory", enabled: "cpu memory")
        try delegate("a/b", processes: ["1", "2"], available: "cpu memory", enabled: "")
        for (file, value, free) in [
            ("memory.max", "1000000\n", "max\n"), ("cpu.max", "5000 100000", "max 100000"), ("cpuset.cpus", "0", "\n"),
        ] {
            try write("a/b/" + file, free)
            #expect(try place("/a/b", ["memory"]).parent == directory.path + "/a")
            try write("a/b/" + file, value)
            let refusal = #expect(throws: CgroupRefusal.self) { try place("/a/b", ["memory"]) }
            #expect(refusal?.reason.contains("would escape") == true, "\(file)")
            try write("a/b/" + file, free)
        }
    }

    @Test func everyRefusalSaysWhy() throws {
        try delegate("a", processes: ["1"], available: "cpu", enabled: "")
        let absent = #expect(throws: CgroupRefusal.self) { try place("/a", ["memory"]) }
        #expect(absent?.reason.contains("does not have the controller 'memory'") == true)
        let shared = #expect(throws: CgroupRefusal.self) { try place("/a", ["cpu"]) }
        #expect(shared?.reason.contains("holds 1 processes") == true)
        if geteuid() != 0 {
            try FileManager.default.setAttributes([.posixPermissions: 0o555], ofItemAtPath: directory.path + "/a")
            let foreign = #expect(throws: CgroupRefusal.self) { try place("/a", ["cpu"]) }
            #expect(foreign?.reason.contains("not delegated to this user") == true)
            try FileManager.default.setAttributes([.posixPermissions: 0o755], ofItemAtPath: directory.path + "/a")
        }
    }

    /// A kernel without the file of a limit refuses; only swap accounting may be missing.
    @Test func nothingIsLeftOfAGroupThatCouldNotBeMade() throws {
        try delegate("a", processes: [], available: "memory", enabled: "memory")
        var limits = CgroupLimits()
        limits.memory = 64 << 20
        let refusal = #expect(throws: CgroupRefusal.self) { try ControlGroup.make(limits, in: unified("/a")) }
        #expect(refusal?.reason.contains("memory.max") == true)
        #expect(
            try FileManager.default.contentsOfDirectory(atPath: directory.path + "/a").allSatisfy {
                !$0.hasPrefix("trireme-")
            })
    }

    @Test func whatEachOptionWrites() throws {
        var limits = CgroupLimits()
        for (name, value, isValid) in [
            ("memory", "67108864", true), ("cpus", "1500", true), ("pids-limit", "12", true), ("cpuset", "0,2-3", true),
            ("memory", "64m", false), ("cpuset", "", false), ("colour", "1", false),
        ] {
            let isTaken = limits.take(name, value)
            #expect(isTaken == isValid, "\(name)")
        }
        let demands = limits.demands()
        let legacy = demands.flatMap { $0.legacy ?? [] }.map { "\($0.file)=\($0.value)" }
        #expect(
            legacy == [
                "memory.limit_in_bytes=67108864", "memory.memsw.limit_in_bytes=67108864", "cpu.cfs_period_us=100000",
                "cpu.cfs_quota_us=150000", "pids.max=12", "cpuset.cpus=0,2-3",
            ])
        #expect(
            demands.flatMap(\.unified).map { "\($0.file)=\($0.value)" } == [
                "memory.max=67108864", "memory.swap.max=0", "cpu.max=150000 100000", "pids.max=12",
                "cpuset.cpus=0,2-3",
            ])
    }

    @Test func theNoteForAnotherProcessHoldsTheGroup() throws {
        #expect(ControlGroup(keeping: []) == nil)
        #expect(
            ControlGroup(keeping: Array("2 /a b/trireme-1\n1 /c\n".utf8))?.note
                == Array("2 /a b/trireme-1\n1 /c\n".utf8))
    }

    @Test func processorLists() {
        for (text, shown) in [("0", "0"), ("3,1,2", "1-3"), ("0-3,8", "0-3,8"), ("8191", "8191")] {
            #expect(ProcessorList(text)?.description == shown)
        }
        for text in ["", ",", "0,", "-1", "3-1", "a", "8192", "0--1", "0-1-2", " 1", "99999999999999999999"] {
            #expect(ProcessorList(text) == nil, "\(text)")
        }
        let list = ProcessorList("0-3,8")
        #expect(list?.subtracting(ProcessorList("1-8")!).description == "0")
        #expect(list?.prefix(2).description == "0-1")
        #expect(list?.count == 5)
        #expect(ProcessorList.allowed().count > 0)
    }
}
