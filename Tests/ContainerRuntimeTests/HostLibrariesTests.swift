import ContainerRuntime
import Foundation
import TestSupport
import Testing

@Suite struct LoaderCacheTests {
    /// `name => path` lines of `ldconfig -p`.
    private func listed(_ cache: String) throws -> Set<String> {
        Set(
            try runProgram(["/sbin/ldconfig", "-p", "-C", cache]).lines.dropFirst().compactMap { line in
                guard let arrow = line.range(of: " => "), let name = line.split(separator: " ").first else {
                    return nil
                }
                return name.trimmingCharacters(in: .whitespaces) + " " + line[arrow.upperBound...]
            })
    }

    @Test(arguments: ["old", "compat", "new"]) func agreesWithLdconfig(format: String) throws {
        let fixture = try HostFixture()
        for n in 1...5 { try fixture.library("liba\(n).so.\(n).2.3", soname: "liba\(n).so.\(n)") }
        try fixture.makeCache(format: format)
        let file = fixture.path + "/etc/ld.so.cache"
        let cache = try #require(LoaderCache(Array(Data(contentsOf: URL(fileURLWithPath: file)))))
        let expected = try listed(file)
        #expect(expected.count >= 5)
        #expect(Set(cache.entries.map { "\($0.name) \($0.path)" }) == expected)
    }

    @Test(.enabled(if: FileManager.default.fileExists(atPath: "/etc/ld.so.cache"))) func readsThisHosts() throws {
        let cache = try #require(
            LoaderCache(Array(Data(contentsOf: URL(fileURLWithPath: "/etc/ld.so.cache")))))
        #expect(Set(cache.entries.map { "\($0.name) \($0.path)" }) == (try listed("/etc/ld.so.cache")))
    }

    @Test func damageIsNoCrash() throws {
        let fixture = try HostFixture()
        try fixture.library("liba.so.1", soname: "liba.so.1")
        var generator = SystemRandomNumberGenerator()
        for format in ["old", "compat", "new"] {
            try fixture.makeCache(format: format)
            let bytes = Array(try Data(contentsOf: URL(fileURLWithPath: fixture.path + "/etc/ld.so.cache")))
            for length in stride(from: 0, to: bytes.count, by: 3) { _ = LoaderCache(Array(bytes[..<length])) }
            for _ in 0..<300 {
                var spoiled = bytes
                for _ in 0..<4 {
                    spoiled[.random(in: 12..<bytes.count, using: &generator)] = .random(in: .min ... .max)
                }
                for entry in LoaderCache(spoiled)?.entries ?? [] { #expect(!entry.name.isEmpty) }
            }
        }
        #expect(LoaderCache([]) == nil)
        #expect(LoaderCache(Array("no cache at all, only text".utf8)) == nil)
    }
}

@Suite struct ElfFactsTests {
    @Test func tellsWhatALibraryIs() throws {
        let fixture = try HostFixture()
        try fixture.library("libbase.so.3.1", soname: "libbase.so.3")
        try fixture.library("libtop.so.1", soname: "libtop.so.1", needs: ["libbase.so.3"], glibc: "GLIBC_2.99")
        let root = try HostRoot(fixture.path)
        let facts = try #require(root.elf(HostFixture.libraries + "/libtop.so.1"))
        #expect(facts.is64Bit && facts.machine == ElfFacts.hostMachine)
        #expect(facts.soname == "libtop.so.1")
        #expect(facts.needed.sorted() == ["libbase.so.3", "libc.so.6"])
        #expect(facts.neededVersions == ["libc.so.6": ["GLIBC_2.99"]])
        #expect(facts.neededGlibc?.description == "2.99")
    }

    /// The system's own C library says its release by its versions, as getconf(1) says it.
    @Test func releaseOfTheCLibrary() throws {
        let image = ImageLibraries(try MergedRoot.system())
        let release = try runProgram(["getconf", "GNU_LIBC_VERSION"]).outputText.split(separator: " ").last ?? ""
        guard case .glibc(let version) = image.cLibrary else {
            Issue.record("\(image.cLibrary)")
            return
        }
        #expect(version.description == release.trimmingCharacters(in: .newlines))
    }

    @Test func damageIsNoCrash() throws {
        let fixture = try HostFixture()
        try fixture.library("libtop.so.1", soname: "libtop.so.1", glibc: "GLIBC_2.99")
        let bytes = Array(
            try Data(contentsOf: URL(fileURLWithPath: fixture.path + HostFixture.libraries + "/libtop.so.1")))
        for length in stride(from: 0, to: bytes.count, by: 7) { _ = ElfFacts(Array(bytes[..<length])) }
        for _ in 0..<500 {
            var spoiled = bytes
            for _ in 0..<8 { spoiled[.random(in: 4..<spoiled.count)] = .random(in: .min ... .max) }
            _ = ElfFacts(spoiled)
        }
        #expect(ElfFacts(bytes)?.soname == "libtop.so.1")
    }

    @Test func versionsAreOrderedByNumber() {
        let versions = ["GLIBC_2.9", "GLIBC_2.34", "GLIBC_2.2.5", "GLIBC_PRIVATE"].compactMap {
            GlibcVersion(symbol: $0)
        }
        #expect(versions.max()?.description == "2.34" && versions.min()?.description == "2.2.5")
    }
}

@Suite struct HostLibrariesTests {
    /// In the cache and gone; there and not in the cache; a 32-bit copy in front.
    @Test func staleCacheAndForeignCopies() throws {
        let fixture = try HostFixture()
        try fixture.library("libgone.so.1", soname: "libgone.so.1")
        try fixture.library("libmoved.so.1", soname: "libmoved.so.1")
        try fixture.makeCache()
        let files = FileManager.default
        try files.removeItem(atPath: fixture.path + HostFixture.libraries + "/libgone.so.1")
        try files.createDirectory(atPath: fixture.path + "/usr/lib64", withIntermediateDirectories: true)
        let old = fixture.path + HostFixture.libraries + "/libmoved.so.1"
        try files.moveItem(atPath: old, toPath: fixture.path + "/usr/lib64/libmoved.so.1")
        try fixture.library("libnew.so.1", soname: "libnew.so.1", in: "/usr/lib64")
        var foreign = try Data(contentsOf: URL(fileURLWithPath: fixture.path + "/usr/lib64/libnew.so.1"))
        foreign[4] = 1  // ELFCLASS32
        try foreign.write(to: URL(fileURLWithPath: fixture.path + HostFixture.libraries + "/libnew.so.1"))
        let host = try fixture.host()
        #expect(host.library("libgone.so.1") == nil)
        #expect(host.library("libmoved.so.1")?.path == "/usr/lib64/libmoved.so.1")
        #expect(host.library("libnew.so.1")?.path == "/usr/lib64/libnew.so.1")
    }

    @Test func modulesComeFirst() throws {
        let fixture = try HostFixture()
        try fixture.library("libx.so.1", soname: "libx.so.1")
        try fixture.library("libx.so.1", soname: "libx.so.1", in: "/opt/m/lib")
        try fixture.makeCache()
        #expect(try fixture.host().library("libx.so.1")?.path == HostFixture.libraries + "/libx.so.1")
        #expect(try fixture.host(first: ["/opt/m/lib"]).library("libx.so.1")?.path == "/opt/m/lib/libx.so.1")
    }

    /// What the image has new enough stays the image's; what it lacks or has too old comes along.
    @Test func needsAreFilledFromTheHost() throws {
        let fixture = try HostFixture()
        try fixture.library("libboth.so.1", soname: "libboth.so.1")
        try fixture.library("libonly.so.1", soname: "libonly.so.1", needs: ["libboth.so.1"])
        try fixture.library("libtop.so.1", soname: "libtop.so.1", needs: ["libonly.so.1"])
        let inside = try HostFixture()
        try inside.cLibrary(["GLIBC_2.17", "GLIBC_2.31"])
        try inside.library("libboth.so.1", soname: "libboth.so.1")
        let host = try fixture.host()
        var injection = LibraryInjection(host: host, image: try inside.image())
        injection.addWithNeeds(try #require(host.library("libtop.so.1")))
        #expect(injection.files.keys.sorted() == ["libonly.so.1", "libtop.so.1"])
        injection.addWithNeeds(try #require(host.library("libtop.so.1"))) { $0 == "libboth.so.1" }
        injection.addWithNeeds(try #require(host.library("libonly.so.1"))) { $0 == "libboth.so.1" }
        #expect(injection.files.keys.contains("libboth.so.1"))
    }

    @Test func imagesCLibrary() throws {
        let old = try HostFixture()
        try old.cLibrary(["GLIBC_2.2.5", "GLIBC_2.17"])
        #expect(try old.image().cLibrary == .glibc(#require(GlibcVersion(symbol: "GLIBC_2.17"))))
        let musl = try HostFixture()
        try musl.file("/lib/ld-musl-x86_64.so.1")
        #expect(try musl.image().cLibrary == .musl)
        #expect(try HostFixture().image().cLibrary == .none)
    }
}
