import Foundation
import LaunchPlan
import TestSupport
import Testing

/// The environment by its one rule, byte for byte; accounts, names and time of the host.
@Suite struct RunEnvironmentTests {
    let store: HandmadeStore
    init() throws { store = try HandmadeStore() }

    private func variables(_ arguments: [String], image: String = "prepared", host: [String: String?] = [:]) throws
        -> [String]
    {
        var environment = host
        environment["TRIREME_STORE"] = store.path
        environment["HOME"] = store.home
        let run = try runProgram(
            [try Programs.path("trireme"), "run"] + arguments + [image, "probe", "env"], environment: environment,
            directory: store.home)
        #expect(run.status == 0, "\(run.errorText)")
        return run.strings.map { String(decoding: $0, as: UTF8.self) }
    }

    @Test func theRule() throws {
        let host: [String: String?] = [
            "FROM_HOST": "1", "FROM_IMAGE": "host", "PATH": ProcessInfo.processInfo.environment["PATH"],
            "LD_PRELOAD": "",
            "TRIREMEENV_FROM_IMAGE": "forced", "TRIREMEENV_FORCED": "1", "EMPTY": "",
        ]
        let found = try variables(["-e", "OWN=x"], host: host)
        for wanted in ["FROM_HOST=1", "FROM_IMAGE=forced", "FORCED=1", "OWN=x", "EMPTY=", "PATH=/bin"] {
            #expect(found.contains(wanted), "\(wanted) in \(found)")
        }
        #expect(!found.contains { $0.hasPrefix("LD_PRELOAD=") || $0.hasPrefix("TRIREMEENV_") })
        #expect(try variables(["-e", "FROM_IMAGE=typed"], host: host).contains("FROM_IMAGE=typed"))
        let clean = try variables(["--clean-env", "-e", "FROM_HOST"], host: host)
        #expect(Set(clean).isSuperset(of: ["FROM_HOST=1", "FORCED=1", "FROM_IMAGE=forced"]))
        #expect(!clean.contains("EMPTY="))
    }

    @Test func valuesAreBytes() throws {
        let script = #"""
            f() { echo hi; }; export -f f
            bad=$(printf 'a\377b'); export BAD="$bad" BIG; BIG=$(head -c 131000 /dev/zero | tr '\0' x)
            "$0" run -e "TYPED=$bad" prepared probe env >"$1/hot"
            "$0" run -e "TYPED=$bad" --env-from-host NONE prepared probe env >"$1/cold"
            printf 'N=\377\n' >"$1/file"; "$0" run --env-file "$1/file" prepared probe env >"$1/filed"
            """#
        let run = try runProgram(
            ["bash", "-c", script, try Programs.path("trireme"), store.directory.path],
            environment: ["TRIREME_STORE": store.path, "HOME": store.home], directory: store.home)
        #expect(run.status == 0, "\(run.errorText)")
        func strings(_ name: String) throws -> [[UInt8]] {
            try Data(contentsOf: URL(fileURLWithPath: store.directory.path + "/" + name)).split(separator: 0).map {
                Array($0)
            }
        }
        for name in ["hot", "cold"] {
            let found = try strings(name)
            #expect(found.contains(Array("TYPED=a".utf8) + [0xFF, 0x62]), "\(name)")
            #expect(found.contains(Array("BAD=a".utf8) + [0xFF, 0x62]), "\(name)")
            #expect(found.contains { $0.count == 131004 && $0.starts(with: Array("BIG=".utf8)) }, "\(name)")
            #expect(found.contains { $0.starts(with: Array("BASH_FUNC_f%%=".utf8)) }, "\(name)")
        }
        #expect(try strings("filed").contains(Array("N=".utf8) + [0xFF]))
    }

    @Test func filesAndPatterns() throws {
        let file = store.directory.path + "/variables"
        try Data("# comment\n\nA=1\n  B=\"two words\" \r\nPASSED\nUNSET_HERE\nFROM_IMAGE=file\n".utf8).write(
            to: URL(fileURLWithPath: file))
        let found = try variables(
            ["--env-file", file, "-e", "A=typed"], host: ["PASSED": "yes", "UNSET_HERE": nil])
        for wanted in ["A=typed", "B=\"two words\" ", "PASSED=yes", "FROM_IMAGE=file"] {
            #expect(found.contains(wanted), "\(wanted)")
        }
        #expect(!found.contains { $0.hasPrefix("UNSET_HERE") })
        try Data("A=1\nB C=2\n".utf8).write(to: URL(fileURLWithPath: file))
        let bad = try store.trireme("run", "--env-file", file, "prepared", "true")
        #expect(bad.status == 125)
        #expect(
            bad.errorText.contains("\(file):2:") && bad.errorText.contains("[env-file-invalid]"), "\(bad.errorText)")
        #expect(try store.trireme("run", "--env-file", "/no/such", "prepared", "true").status == 125)
        let matched = try variables(
            ["--clean-env", "--env-from-host", "SLURM_*,FROM_?MAGE"],
            host: ["SLURM_JOB_ID": "7", "SLURMX": "1", "FROM_IMAGE": "host"])
        #expect(Set(matched).isSuperset(of: ["SLURM_JOB_ID=7", "FROM_IMAGE=host"]))
        #expect(!matched.contains("SLURMX=1"))
    }

    @Test func explained() throws {
        let run = try store.trireme(
            "run", "--explain", "env", "-e", "TYPED=a\nb", "prepared", "false",
            environment: ["FROM_HOST": "1", "LD_AUDIT": "", "TRIREMEENV_X": "1", "FROM_IMAGE": "host"])
        #expect(run.status == 0, "\(run.errorText)")
        let rows = Set(
            run.lines.map { $0.split(separator: " ", omittingEmptySubsequences: true).joined(separator: " ") })
        for row in [
            "host FROM_HOST=1", "image FROM_IMAGE=yes", "command line TYPED=a\\nb", "host, forced X=1",
            "image PATH=/bin",
            "host HOME=\(store.home)", "not passed LD_AUDIT=",
        ] {
            #expect(rows.contains(row), "\(row) in \(run.outputText)")
        }
    }

    @Test func dryRunStartsNothing() throws {
        let marker = store.home + "/made"
        let run = try store.trireme(
            "run", "--dry-run", "-B", store.path + ":/there:ro", "-w", "/srv", "prepared", "probe", "write", marker,
            "a b")
        #expect(run.status == 0, "\(run.errorText)")
        for line in [
            "command        probe write \(marker) 'a b'", "directory      /srv",
            "  /there  <-  \(store.path)  (ro, asked for)",
        ] {
            #expect(run.lines.contains(line), "\(line) in \(run.outputText)")
        }
        #expect(!FileManager.default.fileExists(atPath: marker))
        let bad = try store.trireme("run", "--dry-run", "-B", "/a:b:c:d", "prepared", "true")
        #expect(bad.status == 125)
        #expect(bad.errorText.contains("[usage]"))
    }

    @Test func maskAndTimeAreTheCallers() throws {
        let run = try runProgram(
            ["sh", "-c", "umask 027; exec \"$0\" run prepared probe umask", try Programs.path("trireme")],
            environment: ["TRIREME_STORE": store.path, "HOME": store.home], directory: store.home)
        #expect(run.lines == ["027"])
        #expect(
            try store.trireme("run", "prepared", "probe", "cat", "/etc/localtime").output
                == Data(contentsOf: URL(fileURLWithPath: "/etc/localtime")))
    }

    /// An image without zones and locales gets what the caller's names mean.
    @Test func zonesAndLocalesByValue() throws {
        let zone = "/usr/share/zoneinfo/Etc/GMT-3"
        try #require(FileManager.default.fileExists(atPath: zone), "needs the package tzdata")
        var plan = store.prepared
        plan.options = [.lacksTimeZones, .lacksLocales]
        try store.add("bare", plan)
        let host: [String: String?] = ["TZ": "Etc/GMT-3", "LANG": "de_DE.UTF-8", "LC_TIME": "fr_FR", "LC_ALL": nil]
        let bare = try variables([], image: "bare", host: host)
        #expect(bare.contains("TZ=:/etc/localtime"))
        #expect(bare.contains("LANG=C.UTF-8"))
        #expect(!bare.contains { $0.hasPrefix("LC_TIME") })
        #expect(
            try store.trireme("run", "bare", "probe", "cat", "/etc/localtime", environment: host).output
                == Data(contentsOf: URL(fileURLWithPath: zone)))
        let whole = try variables([], host: host)
        #expect(Set(whole).isSuperset(of: ["TZ=Etc/GMT-3", "LANG=de_DE.UTF-8", "LC_TIME=fr_FR"]))
        // A rule needs no file, and C no locale.
        let plainHost: [String: String?] = ["TZ": "CET-1CEST", "LANG": "C", "LC_ALL": nil, "LC_TIME": nil]
        #expect(Set(try variables([], image: "bare", host: plainHost)).isSuperset(of: ["TZ=CET-1CEST", "LANG=C"]))
        #expect(try variables(["-e", "LANG=xx"], image: "bare", host: host).contains("LANG=xx"))
    }

    /// Another user's image, or a directory: the caller is added to the image's own accounts.
    @Test func accountsOfAnImageOfSomeoneElse() throws {
        var plan = store.prepared
        plan.preparedForUID = geteuid() &+ 1
        try store.add("foreign", plan)
        try store.write("images/i/prepared/etc/passwd", "image:x:4000000001:1::/:/bin/sh")
        try store.write("images/i/prepared/etc/group", "image:x:4000000001:\n")
        let name = try runProgram(["id", "-un"]).lines[0]
        let passwd = try store.trireme("run", "foreign", "probe", "cat", "/etc/passwd").lines
        #expect(
            passwd == ["image:x:4000000001:1::/:/bin/sh", "\(name):x:\(geteuid()):\(getegid())::\(store.home):/bin/sh"])
        let group = try store.trireme("run", "foreign", "probe", "cat", "/etc/group").lines
        #expect(
            group.count == 3 && group[1].hasSuffix(":x:\(getegid()):") && group[2] == "nogroup:x:65534:", "\(group)")
        // The image's name for the number stays.
        try store.write("images/i/prepared/etc/passwd", "image:x:\(geteuid()):1::/:/bin/sh\n")
        #expect(
            try store.trireme("run", "foreign", "probe", "cat", "/etc/passwd").lines == [
                "image:x:\(geteuid()):1::/:/bin/sh"
            ])
    }

    /// Links of the image at these places are not followed: what they lead to stays as it is.
    @Test func accountsBehindLinks() throws {
        let base = store.path + "/layers/base"
        try store.write("layers/base/srv/users", "linked:x:4000000001:1::/:/bin/sh\n")
        try FileManager.default.removeItem(atPath: base + "/etc/passwd")
        try FileManager.default.createSymbolicLink(atPath: base + "/etc/passwd", withDestinationPath: "../srv/users")
        try FileManager.default.createSymbolicLink(atPath: base + "/etc/group", withDestinationPath: "/no/such")
        let lines = try store.trireme("run", "plain", "probe", "cat", "/etc/passwd").lines
        #expect(lines.count == 2 && lines[0].hasPrefix("linked:") && lines[1].contains(":x:\(geteuid()):"), "\(lines)")
        #expect(try store.trireme("run", "plain", "probe", "cat", "/etc/group").lines.count == 2)
        #expect(
            try store.trireme("run", "plain", "probe", "cat", "/srv/users").lines == [
                "linked:x:4000000001:1::/:/bin/sh"
            ])
        #expect(
            try store.trireme("run", "-B", store.home + ":/etc/new", "plain", "probe", "stat", "/etc/new").status == 0)
    }

    /// A host whose own name only its resolver knows: the container's /etc/hosts has it.
    @Test func theHostsOwnNameIsKnown() throws {
        let script = """
            mount -t tmpfs t "$1"; printf '127.0.0.1 localhost\\n# other-name' >"$1/hosts"
            mount --bind "$1/hosts" /etc/hosts; hostname Other-Name
            "$0" run prepared probe cat /etc/hosts
            printf '\\n10.0.0.9 x other-name\\n' >>/etc/hosts; "$0" run prepared probe cat /etc/hosts | tail -n 1
            """
        let place = try TemporaryDirectory()
        let run = try runProgram(
            ["unshare", "-U", "-r", "-m", "-u", "sh", "-ec", script, try Programs.path("trireme"), place.path],
            environment: ["TRIREME_STORE": store.path, "HOME": store.home], directory: store.home)
        try #require(run.lines.count == 4, "\(run.lines) \(run.errorText)")
        #expect(run.lines[0] == "127.0.0.1 localhost" && run.lines[1] == "# other-name")
        #expect(run.lines[2].hasSuffix(" Other-Name"))
        #expect(run.lines[3].hasSuffix("10.0.0.9 x other-name"))
    }
}
