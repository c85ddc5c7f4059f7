import Foundation
import TestSupport
import Testing

/// What the store does between in and out: names, use, age, damage, several stores.
@Suite struct ImageStoreTests {
    private func loaded(_ names: [String] = ["x:1"], extraFile: String = "") throws -> ImageFixture {
        let fixture = try ImageFixture()
        try fixture.makeImage(extraFile: extraFile)
        for name in names {
            try fixture.shell("rm -f in.tar; skopeo copy -q oci:oci:image oci-archive:in.tar:\(name)")
            try fixture.trireme("load", "-i", fixture.path + "/in.tar")
            try fixture.shell("umoci config --image oci:image --config.env N=\(name)")
        }
        return fixture
    }

    @Test func damageIsFoundAndRepaired() throws {
        let fixture = try loaded()
        let clean = try fixture.trireme("image", "verify")
        #expect(clean.status == 0, "\(clean.outputText)")
        try fixture.shell(
            """
            cd store/layers; f=$(find . -name extra | head -1); chmod u+w $f; echo other > $f
            d=$(find . -path '*/lower/tree' -type d | head -1); touch $d/added; echo '{}' > ../index.json
            """)
        let found = try fixture.trireme("image", "verify")
        #expect(found.status == 1)
        #expect(found.outputText.contains("extra: ") && found.outputText.contains("added: should not be there"))
        #expect(found.outputText.contains("index.json") && found.errorText.contains("--repair"))
        #expect(try fixture.trireme("image", "verify", "--repair").status == 0)
        let again = try fixture.trireme("image", "verify")
        #expect(again.status == 0, "\(again.outputText)")
        try fixture.verifyStore(names: ["x:1"])

        try fixture.shell("echo more >> $(ls -S store/blobs/sha256/* | head -1)")
        let blob = try fixture.trireme("image", "verify", "--repair", "--format", "json")
        #expect(blob.status == 1 && blob.outputText.contains("\"kind\" : \"blob\""))
        #expect(try fixture.trireme("load", "-i", fixture.path + "/in.tar").status == 0)
        #expect(try fixture.trireme("image", "verify").status == 0, "loading again brought the blob back")
        #expect(fixture.entries("tmp") == [])
    }

    @Test func whatIsUnreadableIsNotThrownAway() throws {
        let fixture = try loaded(["x:1", "y:1"])
        let layers = fixture.entries("layers")
        try fixture.shell("echo newer > store/images/$(ls store/images | head -1)/record.json")
        let names = try fixture.trireme("image", "ls", "--format", "{{.Name}}").lines
        #expect(names.count == 1)
        #expect(try fixture.trireme("image", "rm", names[0]).status == 0)
        #expect(fixture.entries("layers") == layers, "the other image cannot be read, so its layers may be these")
        #expect(try fixture.trireme("image", "verify").status == 1)
    }

    @Test func prunesByNameAgeAndSize() throws {
        let fixture = try loaded(["x:1", "y:1"])
        func names() throws -> [String] { try fixture.trireme("image", "ls", "--format", "{{.Name}}").lines }
        #expect(try fixture.trireme("image", "prune").status == 0)
        #expect(try names() == ["x:1", "y:1"])
        try fixture.trireme("image", "pin", "x:1")
        let dry = try fixture.trireme("image", "prune", "-a", "--dry-run")
        #expect(dry.outputText == "Would delete: y:1\n")
        #expect(try names() == ["x:1", "y:1"])
        #expect(try fixture.trireme("image", "prune", "--older-than", "1h").outputText == "")
        #expect(try fixture.trireme("image", "prune", "--keep-size", "1").outputText == "Deleted: y:1\n")
        #expect(try names() == ["x:1"])
        try fixture.trireme("image", "pin", "--remove", "x:1")
        #expect(try fixture.trireme("image", "prune", "--older-than", "0s", "--dry-run").status == 0)
        #expect(try fixture.trireme("image", "prune", "-a", "--filter", "until=1h").outputText == "")
        for age in ["soon", "30", "-1d", "d"] {
            #expect(try fixture.trireme("image", "prune", "--older-than=\(age)").status == 125)
        }
        #expect(try fixture.trireme("image", "prune", "-a").outputText == "Deleted: x:1\n")
        #expect(fixture.isStoreEmpty)
    }

    /// Looking at images is no use of them; running one is.
    @Test func ageCountsFromTheLastUse() throws {
        let fixture = try loaded(["x:1", "y:1", "localhost/z:1"])
        try fixture.shell(
            """
            sed -i 's/"loaded":"20[0-9][0-9]/"loaded":"2001/' store/images/*/record.json
            touch -d '40 days ago' store/plans/* store/images/*/plan
            """)
        for _ in 0..<2 {
            _ = try fixture.trireme("images")
            _ = try fixture.trireme("image", "df")
            let dry = try fixture.trireme("image", "prune", "--older-than", "30d", "--dry-run")
            #expect(dry.lines.sorted() == ["Would delete: localhost/z:1", "Would delete: x:1", "Would delete: y:1"])
        }
        func run(_ program: String, _ image: String) throws {
            _ = try runProgram(
                [try Programs.path(program), "run", image, "/none"], environment: ["TRIREME_STORE": fixture.store])
        }
        try run("trireme", "z:1")
        try run("trireme-cli", "x:1")
        #expect(try fixture.trireme("image", "prune", "--older-than", "30d").outputText == "Deleted: y:1\n")
    }

    /// Whatever of the store's own notes is damaged, `--repair` leaves a store that works and can be collected.
    @Test func bookkeepingIsRepaired() throws {
        let fixture = try loaded(["x:1", "y:1"])
        try fixture.shell("head -c 20 /dev/urandom > store/plans/x:1")
        #expect(try fixture.trireme("image", "verify").status == 1)
        let repaired = try fixture.trireme("image", "verify", "--repair")
        #expect(repaired.status == 0 && repaired.outputText.contains("repaired"), "\(repaired.outputText)")
        #expect(try fixture.trireme("image", "verify").status == 0)
        #expect(try fixture.trireme("image", "ls", "--format", "{{.Name}}").lines == ["x:1", "y:1"])
        try fixture.shell("f=$(ls store/images/*/record.json | head -1); echo '{' > $f")
        #expect(try fixture.trireme("image", "verify", "--repair").status == 1)
        #expect(try fixture.trireme("image", "verify").status == 0)
        let left = try fixture.trireme("image", "ls", "--format", "{{.Name}}").lines
        #expect(left.count == 1)
        for name in left { #expect(try fixture.trireme("image", "rm", name).status == 0) }
        #expect(fixture.isStoreEmpty)
    }

    @Test func sharedBytesAreCountedOnce() throws {
        let fixture = try loaded(["x:1", "y:1"])
        let json = try JSONSerialization.jsonObject(with: fixture.trireme("image", "df", "--format", "json").output)
        let rows = try #require(json as? [[String: Any]])
        #expect(rows.count == 2)
        for row in rows {
            let size = try #require(row["size"] as? Int)
            let shared = try #require(row["shared"] as? Int)
            #expect(shared > 0 && shared < size && row["unique"] as? Int == size - shared)
        }
    }

    @Test func aRunningContainersImageStays() throws {
        let fixture = try ImageFixture()
        try fixture.shell(
            """
            mkdir -p r/bin; printf 'int main(void) { char c; return read(0, &c, 1) < 0; }' > w.c
            cc -w -static -o r/bin/wait w.c; tar -C r -cf r.tar .
            """)
        try fixture.trireme("image", "import", fixture.path + "/r.tar", "wait:1", "-c", "CMD [\"/bin/wait\"]")
        let container = Process()
        container.executableURL = URL(fileURLWithPath: try Programs.path("trireme"))
        container.arguments = ["run", "wait:1"]
        container.environment = ProcessInfo.processInfo.environment.merging(["TRIREME_STORE": fixture.store]) { $1 }
        let input = Pipe()
        container.standardInput = input
        try container.run()
        defer {
            try? input.fileHandleForWriting.close()
            container.waitUntilExit()
        }
        let limit = Date(timeIntervalSinceNow: 30)
        var isSeen = false
        while !isSeen, Date() < limit {
            isSeen = try fixture.trireme("image", "df").outputText.contains("in use")
        }
        #expect(isSeen)
        let refused = try fixture.trireme("image", "rm", "wait:1")
        #expect(refused.status == 125 && refused.errorText.contains("[image-in-use]"))
        #expect(try fixture.trireme("image", "prune", "-a").outputText == "")
        #expect(try fixture.trireme("image", "rm", "-f", "wait:1").status == 0)
    }

    @Test func aSitesStoreIsReadAndNeverWritten() throws {
        let fixture = try loaded(["site/x:1"])
        try fixture.shell(
            "mv store site; chmod -R a-w site; find site > before; mkdir -p r/bin; cp /bin/true r/bin; tar -C r -cf r.tar ."
        )
        defer { _ = try? fixture.shell("chmod -R u+w site") }
        let list = fixture.store + "::" + fixture.path + "/nowhere:" + fixture.path + "/site"
        func run(_ program: String, _ arguments: String...) throws -> ProgramRun {
            try runProgram([try Programs.path(program)] + arguments, environment: ["TRIREME_STORE": list])
        }
        #expect(
            try run("trireme-cli", "image", "ls", "--format", "{{.Name}} {{.Store}}").outputText
                == "site/x:1 \(fixture.path)/site\n")
        // Neither way of finding it may differ: the launcher's own, and by another spelling through trireme-cli.
        for name in ["site/x:1", "docker.io/site/x:1"] {
            #expect(
                try run("trireme", "run", "--entrypoint", "", name, "/bin/true").errorText.contains("image-not-found")
                    == false)
        }
        #expect(try run("trireme-cli", "image", "inspect", "site/x:1").status == 0)
        #expect(try run("trireme-cli", "save", "-o", fixture.path + "/s.tar", "site/x:1").status == 0)
        for verb in [["image", "rm", "site/x:1"], ["image", "tag", "site/x:1", "y"], ["image", "pin", "site/x:1"]] {
            let refused = try runProgram(
                [try Programs.path("trireme-cli")] + verb, environment: ["TRIREME_STORE": list])
            #expect(refused.status == 125 && refused.errorText.contains("[store-read-only]"), "\(refused.errorText)")
        }
        #expect(try run("trireme-cli", "image", "import", fixture.path + "/r.tar", "own:1").status == 0)
        #expect(fixture.entries("images").count == 1)
        try fixture.shell("find site | cmp - before")
    }

    /// Whatever the user's umask: what lies in the store can be read by those who may enter it.
    @Test func theStoresFilesAreReadable() throws {
        let fixture = try ImageFixture()
        try fixture.makeImage()
        let program = try Programs.path("trireme-cli")
        try fixture.shell(
            """
            umask 077; skopeo copy -q oci:oci:image oci-archive:in.tar:x:1; export TRIREME_STORE=$PWD/store
            \(program) load -q -i in.tar; \(program) image tag x:1 y:1; \(program) image rm x:1
            """)
        #expect(
            try fixture.shell("stat -c %a store store/index.json store/plans/* store/images/*/record.json").lines == [
                "700", "644", "644", "644",
            ])
        #expect(
            try fixture.shell("find store/layers/*/bin -name link -prune -o -name true -printf '%m\\n'").outputText
                .contains("755"))
    }

    @Test func namesAndDigits() throws {
        let fixture = try loaded(["x:1"])
        let id = try fixture.trireme("image", "ls", "-q", "--no-trunc").lines[0]
        for name in [id, String(id.dropFirst(7).prefix(12)), "docker.io/library/x:1", "x:1@" + id] {
            #expect(try fixture.trireme("image", "inspect", name).status == 0, "\(name)")
        }
        #expect(try fixture.trireme("image", "tag", "x:1", "UPPER").status == 125)
        #expect(try fixture.trireme("image", "tag", String(id.dropFirst(7).prefix(12)), "localhost/z").status == 0)
        #expect(try fixture.trireme("image", "inspect", "z").status == 0)
        let list = try fixture.trireme("image", "ls", "--format", "table {{.Repository}}\\t{{.ID}}").lines
        #expect(list.count == 3 && list[0].hasPrefix("REPOSITORY ") && list[0].hasSuffix("IMAGE ID"))
        let wrong = try fixture.trireme("image", "ls", "--format", "{{.Repositry}}")
        #expect(wrong.status == 125 && wrong.errorText.contains("did you mean '{{.Repository}}'?"))
        #expect(try fixture.trireme("image", "ls", "x", "-q").lines.count == 1)
        #expect(try fixture.trireme("image", "ls", "--filter", "reference=nothing*", "-q").lines.isEmpty)
    }
}
