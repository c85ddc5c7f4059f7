import Foundation
import LaunchPlan
import TestSupport

/// A store made by hand: two layers holding the static probe, a prepared top layer, and plans.
/// It needs no image and no importer, so the launcher is tested alone.
final class HandmadeStore: Sendable {
    let directory: TemporaryDirectory
    var path: String { directory.path + "/store" }
    /// The caller's home in these tests, a directory of the host.
    var home: String { directory.path + "/home" }

    /// Where the prepared layer has ready mount points.
    static let mountPoints = [
        "/proc", "/sys", "/dev", "/tmp", "/etc/hosts", "/etc/resolv.conf", "/etc/hostname", "/etc/localtime",
    ]

    init() throws {
        directory = try TemporaryDirectory()
        let probe = directory.path + "/probe"
        let files = FileManager.default
        try Self.probe.get().write(to: URL(fileURLWithPath: probe))
        try files.setAttributes([.posixPermissions: 0o755], ofItemAtPath: probe)
        for made in ["layers/base/bin", "layers/base/etc", "layers/base/srv", "layers/second/bin", "plans", "tmp"] {
            try files.createDirectory(atPath: path + "/" + made, withIntermediateDirectories: true)
        }
        try files.createDirectory(atPath: home, withIntermediateDirectories: true)
        try files.copyItem(atPath: probe, toPath: path + "/layers/base/bin/probe")
        try files.copyItem(atPath: probe, toPath: path + "/layers/second/bin/true")
        try write("layers/second/etc-marker", "second")
        try write("layers/base/bin/not-executable", "text", mode: 0o644)
        try write("layers/base/bin/no-interpreter", "#!/no/such/interpreter\n", mode: 0o755)
        try write("layers/base/bin/no-program", "hello", mode: 0o755)
        try write("layers/base/bin/foreign", foreign(of: probe), mode: 0o755)
        try write("layers/base/etc/passwd", "root:x:0:0::/:/bin/sh\n")
        for point in Self.mountPoints {
            let inside = "images/i/prepared" + point
            if point.hasPrefix("/etc/") {
                try write(inside, "")
            } else {
                try files.createDirectory(atPath: path + "/" + inside, withIntermediateDirectories: true)
            }
        }
        try write("images/i/prepared/etc/passwd", "prepared:x:\(geteuid()):\(getegid())::/:/bin/sh\n")
        try write("images/i/prepared/etc/group", "prepared:x:\(getegid()):\n")
        try add("prepared", prepared)
        try add("plain", plain)
    }

    /// A two-layer image with nothing prepared.
    var plain: LaunchPlan {
        var plan = LaunchPlan()
        plan.layers = ["layers/second", "layers/base"]
        plan.environment = [Array("PATH=/bin".utf8), Array("FROM_IMAGE=yes".utf8)]
        plan.imageName = "plain:latest"
        return plan
    }

    /// What the image store makes: the prepared layer on top, its mount points ready.
    var prepared: LaunchPlan {
        var plan = plain
        plan.layers.insert("images/i/prepared", at: 0)
        plan.mountPoints = Self.mountPoints
        plan.preparedForUID = geteuid()
        return plan
    }

    /// Puts an image into the store: its plan, and the record without which `trireme-cli` would not see it.
    func add(_ name: String, _ plan: LaunchPlan) throws {
        let file = name.replacingOccurrences(of: "/", with: "%2F") + (name.contains(":") ? "" : ":latest")
        let hex = name.utf8.map { String(format: "%02x", $0) }.joined()
        let digits = String((hex + String(repeating: "0", count: 64)).prefix(64))
        var plan = plan
        plan.imageDigest = "sha256:" + digits
        try write(
            "images/\(digits)/record.json",
            """
            {"version":1,"configuration":"sha256:\(digits)","manifest":{"digest":"sha256:\(digits)","size":1},
            "platform":{"architecture":"amd64","os":"linux"},"loaded":"2026-01-01T00:00:00Z","layers":[],"mpi":[],
            "skippedDevices":0,"droppedAttributes":0}
            """)
        try Data(plan.encoded()).write(to: URL(fileURLWithPath: path + "/plans/" + file))
    }

    /// Runs `trireme` on this store, from its home.
    func trireme(
        _ arguments: String..., environment: [String: String?] = [:], from: String? = nil, input: Data = Data()
    ) throws -> ProgramRun {
        var merged = environment
        merged["TRIREME_STORE"] = path
        merged["HOME"] = merged["HOME"] ?? home
        return try runProgram(
            [try Programs.path("trireme")] + arguments, environment: merged, directory: from ?? home, input: input,
            limitSeconds: 120)
    }

    func write(_ name: String, _ text: String, mode: Int = 0o644) throws {
        try write(name, Data(text.utf8), mode: mode)
    }
    func write(_ name: String, _ data: Data, mode: Int = 0o644) throws {
        let file = URL(fileURLWithPath: path + "/" + name)
        try FileManager.default.createDirectory(
            at: file.deletingLastPathComponent(), withIntermediateDirectories: true)
        try data.write(to: file)
        try FileManager.default.setAttributes([.posixPermissions: mode], ofItemAtPath: file.path)
    }

    /// The head of a program with the machine of another architecture (elf.h, EM_AARCH64 or EM_X86_64).
    private func foreign(of program: String) throws -> Data {
        var head = try Data(contentsOf: URL(fileURLWithPath: program)).prefix(4096)
        head[18] = head[18] == 183 ? 62 : 183
        return head
    }

    /// The static probe, built once per test run; the directory it was built in is gone again.
    private static let probe = Result {
        let workshop = try TemporaryDirectory()
        let built = workshop.path + "/probe"
        let source = URL(fileURLWithPath: #filePath).deletingLastPathComponent().path + "/../Probe/probe.c"
        let run = try runProgram(["cc", "-O1", "-static", source, "-o", built])
        guard run.status == 0 else { throw Failed(what: run.errorText) }
        return try Data(contentsOf: URL(fileURLWithPath: built))
    }

    struct Failed: Error { var what: String }
}

extension ProgramRun {
    /// Output that is a list of NUL-terminated byte strings.
    var strings: [[UInt8]] { output.split(separator: 0, omittingEmptySubsequences: false).dropLast().map { Array($0) } }
    /// The value after `name:` in the style of /proc/self/status.
    func field(_ name: String) -> String? {
        lines.first { $0.hasPrefix(name + ":") }.map {
            $0.dropFirst(name.count + 1).trimmingCharacters(in: .whitespaces)
        }
    }
}
