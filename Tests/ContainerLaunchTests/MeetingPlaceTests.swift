import ContainerLaunch
import Foundation
import LinuxSystem
import TestSupport
import Testing

/// Where this user's processes find each other: nobody else can have been there first.
@Suite struct MeetingPlaceTests {
    let space: TemporaryDirectory
    private var usual: String { space.path + "/trireme-\(geteuid())" }
    private let environment = UnsafePointer(environ)

    init() throws {
        space = try TemporaryDirectory()
        chmod(space.path, 0o1777)
    }

    private func made() throws -> (path: String, mode: mode_t) {
        let directory = try #require(PrivateDirectory.temporary(space.path), "errno \(errno)")
        defer { close(directory.descriptor) }
        var status = stat()
        fstat(directory.descriptor, &status)
        #expect(status.st_uid == geteuid())
        return (String(cString: directory.path), status.st_mode & 0o7777)
    }

    @Test func aDirectoryOfOnesOwn() throws {
        #expect(try made() == (usual, 0o700))
        #expect(try made() == (usual, 0o700))
    }

    /// A link, a file, or a directory that others may enter: another name is taken, and found again.
    @Test(arguments: ["ln -s / NAME", "touch NAME", "mkdir -m 777 NAME", "mkdir -m 750 NAME"])
    func aTakenNameIsNobodysTrap(trap: String) throws {
        try runProgram(["sh", "-c", trap.replacingOccurrences(of: "NAME", with: usual)])
        let first = try made()
        #expect(first.path.hasPrefix(usual + ".") && first.path.count == usual.count + 13 && first.mode == 0o700)
        #expect(try made() == first)
    }

    /// Where others may rename what is ours, nothing is.
    @Test func aSpaceThatDoesNotHoldNames() {
        chmod(space.path, 0o777)
        #expect(PrivateDirectory.temporary(space.path) == nil)
        #expect(PrivateDirectory.temporary(space.path + "/missing") == nil)
    }

    @Test func oneListensAndTheNextTakesOver() throws {
        let place = try #require(MeetingPlace(environment))
        let name = "test-\(UUID().uuidString.lowercased().prefix(20))"
        defer { place.remove(name) }
        func asks() -> Int32 {
            let socket = UnixSocket.make()
            defer { close(socket) }
            return place.connect(socket, to: name) ? 0 : errno
        }
        func listens() throws -> Int32 {
            let lock = place.lock(name)
            try #require(lock >= 0)
            defer { close(lock) }
            // Its own second lock would not be granted either.
            #expect(place.lock(name) == -1 && errno == EWOULDBLOCK)
            let socket = UnixSocket.make()
            try #require(place.bind(socket, to: name))
            #expect(asks() == ECONNREFUSED)
            #expect(listen(socket, 1) == 0)
            return socket
        }
        #expect(asks() == ENOENT)
        for _ in 0..<2 {
            let socket = try listens()
            #expect(asks() == 0)
            close(socket)
            #expect(asks() == ECONNREFUSED)
        }
        // What ended without a word is swept when another name is bound.
        let other = name + "-b"
        let lock = place.lock(other)
        let socket = UnixSocket.make()
        #expect(place.bind(socket, to: other))
        #expect(asks() == ENOENT)
        place.remove(other)
        close(socket)
        close(lock)
    }
}
