import CLinux
import Foundation
import Glibc
import ImageFormats
import LinuxSystem
import TestSupport

/// A directory with most kinds of files, and images of it.
final class SquashFixture {
    let scratch: TemporaryDirectory
    var path: String { scratch.path }

    init() throws {
        scratch = try TemporaryDirectory()
        try shell(
            """
            mkdir -p tree/a/b tree/big tree/empty; cd tree
            printf 'small' > a/small; cp a/small a/b/same; : > a/zero; ln a/small a/b/hard; ln -s ../a/small link
            head -c 300000 /dev/urandom > random; cp random a/random-too; yes text | head -c 500000 > text
            truncate -s 1M sparse; printf 'end' >> sparse; printf 'x' | dd of=sparse bs=1 seek=400000 conv=notrunc status=none
            head -c 131072 /dev/zero | tr '\\0' y > one-block; mkfifo pipe
            for i in $(seq 450); do : > big/a-file-with-quite-a-long-name-$i; done
            setfattr -n user.colour -v blue a/small; setfattr -n user.shape -v round a
            chmod 751 a/random-too; chmod 600 text; chmod 1777 empty; touch -d @1500000000 text a/b; touch -h -d @1400000000 link
            find . -type d -exec touch -d @1300000000 {} +
            """)
    }

    @discardableResult
    func shell(_ line: String) throws -> String {
        let run = try runProgram(["sh", "-ec", line], directory: path)
        guard run.status == 0 else { throw Failed(what: "\(line)\n\(run.errorText)") }
        return run.outputText
    }
    struct Failed: Error { var what: String }

    /// Writes `tree` with our writer.
    func write(_ name: String, options: SquashWriter.Options = .init()) throws {
        let file = try OwnedDescriptor.open("\(path)/\(name)", O_RDWR | O_CREAT | O_EXCL, mode: 0o644)
        let directory = try OwnedDescriptor.open(path + "/tree", O_RDONLY | O_DIRECTORY)
        let writer = SquashWriter(file.raw, options: options)
        var imports = DirectoryImport.Options()
        imports.isRootOwned = false
        try DirectoryImport(writer, options: imports).run([directory.raw])
        _ = try writer.finish()
    }

    /// Extracts image `name` to directory `target` with our reader.
    func extract(_ name: String, to target: String) throws {
        let file = try OwnedDescriptor.open("\(path)/\(name)", O_RDONLY)
        try FileManager.default.createDirectory(atPath: "\(path)/\(target)", withIntermediateDirectories: false)
        let directory = try OwnedDescriptor.open("\(path)/\(target)", O_RDONLY | O_DIRECTORY)
        let payload = try ImageFile.payload(file.raw)
        let reader = try SquashReader(file.raw, offset: payload.offset, length: payload.length)
        var extraction = SquashExtraction(reader, into: directory.raw)
        _ = try extraction.run()
    }

    /// Type, mode, links, size, time, owner, target, content and attributes of everything in `directory`.
    /// What `directory` is once it was an image and is a directory again: nothing that only its owner could give away.
    func listingWithoutPrivileges(_ directory: String) throws -> String {
        try shell(
            """
            rm -rf expected; cp -a \(directory) expected
            find expected ! -type l ! -type f ! -type d -exec chmod ug-s,go-w {} +
            find expected \\( -type f -o -type d \\) -perm /6022 -printf '%m\\0%p\\0' | xargs -0 -r -n 2 sh -c \\
                'chmod u+w "$1" && setfattr -n user.trireme.mode -v "$0" "$1" && chmod "$0" "$1" && chmod ug-s,go-w "$1"'
            """)
        return try listing("expected")
    }

    func listing(_ directory: String) throws -> String {
        try shell(
            """
            cd \(directory)
            find . ! -type d -printf '%y %m %n %s %Ts %U:%G %P -> %l\\n' | sort
            find . -type d -printf '%y %m %n %Ts %U:%G %P\\n' | sort
            find . -type f -exec sha256sum {} + | sort -k2; find . \\( -type f -o -type d \\) -print0 | sort -z | xargs -0 getfattr -h -d --absolute-names
            """)
    }
}

/// An image in memory as a file that has no name.
final class MemoryImage {
    let file: Int32
    let count: Int

    init(_ bytes: [UInt8]) throws {
        file = try checked("memfd_create") { linux_memfd_create("image", 1) }
        count = bytes.count
        guard bytes.withUnsafeBytes({ Glibc.write(file, $0.baseAddress, $0.count) }) == count else {
            throw SyscallError("write")
        }
    }

    deinit { close(file) }

    /// Opens it and reads all there is, up to a bound; returns the files seen.
    func walk() throws -> Int {
        let payload = try ImageFile.payload(file)
        let reader = try SquashReader(file, offset: payload.offset, length: payload.length)
        var pending = [try reader.root()]
        var seen = 0
        let buffer = UnsafeMutableRawBufferPointer.allocate(byteCount: 1 << 18, alignment: 64)
        defer { buffer.deallocate() }
        while let inode = pending.popLast(), seen < 400 {
            seen += 1
            _ = try reader.attributes(of: inode)
            switch inode.kind {
            case .directory:
                var entries = try reader.entries(inode)
                while let entry = try entries.next() { pending.append(try reader.inode(entry.reference)) }
            case .file:
                _ = try reader.read(inode, at: 0, into: buffer)
                if inode.size > 1000 { _ = try reader.read(inode, at: inode.size - 700, into: buffer) }
            case .symbolicLink: _ = try reader.target(of: inode)
            default: break
            }
        }
        return seen
    }
}
