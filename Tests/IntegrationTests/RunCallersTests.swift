import Foundation
import LaunchPlan
import TestSupport
import Testing

/// What the caller brings along: accounts that only a directory service knows, groups, own directories.
@Suite struct RunCallersTests {
    let store: HandmadeStore

    init() throws { store = try HandmadeStore() }

    /// `getent` is how a static program asks the host's directory service: here one that knows 4711.
    /// The caller is that user, in a user namespace.
    private func asDirectoryUser(_ command: String, knows: Bool = true) throws -> ProgramRun {
        let fake = store.directory.path + "/getent"
        try """
        #!/bin/sh
        \(knows ? "" : "exit 2")
        case "$1 $2" in
        "passwd 4711") echo "ldapuser:x:4711:4712:Only There:/ldap/home:/bin/zsh" ;;
        "group 4712") echo "ldapgroup:*:4712:ldapuser" ;;
        *) exit 2 ;;
        esac
        """.write(toFile: fake, atomically: true, encoding: .utf8)
        try FileManager.default.setAttributes([.posixPermissions: 0o755], ofItemAtPath: fake)
        return try runProgram(
            [
                "unshare", "-U", "-r", "-m", "sh", "-ec",
                "mount --bind \"$0\" \"$(readlink -f \"$(command -v getent)\")\"; "
                    + "exec unshare -U --map-user=4711 --map-group=4712 sh -c '\(command)' \"$1\"",
                fake, try Programs.path("trireme"),
            ],
            environment: ["TRIREME_STORE": store.path, "HOME": store.home], directory: store.home, limitSeconds: 120)
    }

    /// An image of somebody else: the launcher itself asks.
    @Test func aUserOfADirectoryServiceHasAName() throws {
        var plan = store.prepared
        plan.preparedForUID = geteuid() &+ 1
        try store.add("foreign", plan)
        try store.write("images/i/prepared/etc/passwd", "image:x:1:1::/:/bin/sh\n")
        try store.write("images/i/prepared/etc/group", "image:x:1:\n")
        let both = "\"$0\" run foreign probe cat /etc/passwd; \"$0\" run foreign probe cat /etc/group"
        #expect(
            try asDirectoryUser(both).lines == [
                "image:x:1:1::/:/bin/sh", "ldapuser:x:4711:4712::\(store.home):/bin/sh", "image:x:1:",
                "ldapgroup:x:4712:", "nogroup:x:65534:",
            ])
        // Nobody knows the number: it has a name all the same, or programs that ask for it would fail.
        let nameless = try asDirectoryUser(both, knows: false)
        #expect(nameless.lines[1] == "user4711:x:4711:4712::\(store.home):/bin/sh")
        #expect(nameless.lines[3] == "group4712:x:4712:")
    }

    /// An image prepared for this user: `trireme-cli` asks once, when it is loaded.
    @Test func aUserOfADirectoryServiceLoadsAnImage() throws {
        let root = store.directory.path + "/root"
        for made in ["bin", "etc"] {
            try FileManager.default.createDirectory(atPath: root + "/" + made, withIntermediateDirectories: true)
        }
        try FileManager.default.copyItem(atPath: store.path + "/layers/base/bin/probe", toPath: root + "/bin/probe")
        let run = try asDirectoryUser(
            "tar -C \(root) -cf \(root).tar . && \"$0\" image import -q \(root).tar theirs >/dev/null && "
                + "\"$0\" run theirs probe cat /etc/passwd")
        #expect(run.lines.contains { $0.hasPrefix("ldapuser:x:4711:4712:") }, "\(run.outputText)\(run.errorText)")
    }

    /// More groups than any list in a program; none of them is lost, as far as the kernel maps them.
    @Test func supplementaryGroupsStay() throws {
        let inside = try store.trireme("run", "prepared", "probe", "cat", "/proc/self/status").field("Groups")
        let outside = try runProgram(["cat", "/proc/self/status"]).field("Groups")
        func count(_ text: String?) -> Int { text?.split(separator: " ").count ?? -1 }
        #expect(count(inside) == count(outside))
    }

    /// Device nodes and set-id bits of the caller's directories mean nothing inside, nor of what lies below them.
    @Test func ownDirectoriesHoldNoDevices() throws {
        let other = store.directory.path + "/elsewhere"
        try FileManager.default.createDirectory(atPath: other, withIntermediateDirectories: true)
        let run = try runProgram(
            [try Programs.path("trireme"), "run", "prepared", "probe", "cat", "/proc/self/mountinfo"],
            environment: ["TRIREME_STORE": store.path, "HOME": store.home], directory: other)
        var options: [String: Set<Substring>] = [:]
        for line in run.lines {
            let words = line.split(separator: " ")
            options[String(words[4])] = Set(words[5].split(separator: ","))
        }
        for place in ["/tmp", store.home, other] {
            // The directories of a test usually lie in /tmp, which then shows them.
            guard let found = options[place] else {
                #expect(place.hasPrefix("/tmp/"), "\(place)")
                continue
            }
            #expect(found.isSuperset(of: ["nosuid", "nodev"]), "\(place): \(found)")
        }
        #expect(options["/dev"]?.contains("nodev") == false)
    }
}
