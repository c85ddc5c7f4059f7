import Foundation
import Glibc
import TestSupport
import Testing

/// Archives that become single-file images as a stream, compared with the way through the store.
@Suite(.serialized) struct SingleFileStreamTests {
    let fixture: ImageFixture

    init() throws {
        fixture = try ImageFixture()
        try fixture.makeImage()
        // A top layer that links to files of lower layers, hides some, and has attributes and odd types.
        try fixture.shell(
            """
            mkdir -p c/lower c/etc/deep c/usr/lib/x; echo again > c/extra; ln c/extra c/extra2; echo new > c/usr/lib/x/y
            echo stay > c/lower/stay; ln c/lower/stay c/lower/hard; mkfifo c/pipe
            truncate -s 300000 c/hole; echo end >> c/hole
            head -c 400000 /dev/urandom > c/random; setfattr -n user.colour -v blue c/random
            : > c/etc/deep/.wh.none; : > c/bin.wh; chmod 2755 c/usr/lib/x; touch -d @1400000000 c/usr/lib/x
            tar -C c --xattrs --sparse -cf c.tar ./extra ./extra2 ./pipe ./hole ./random \
                ./etc/deep ./usr/lib/x ./bin.wh
            tar -C c -cf h.tar ./lower/stay ./lower/hard; tar --delete -f h.tar ./lower/stay
            tar -Af c.tar h.tar; umoci raw add-layer --image oci:image c.tar
            skopeo copy --quiet --insecure-policy oci:oci:image docker-archive:x.tar:stream:1
            skopeo copy --quiet --insecure-policy oci:oci:image oci-archive:y.tar:stream:1
            """)
    }

    /// Everything in the image but the root's own time, which an unpacked layer without an entry for it makes up.
    private func listing(_ image: String) throws -> String {
        #expect(
            try fixture.trireme("image", "convert", "-q", fixture.path + "/\(image)", fixture.path + "/out").status == 0
        )
        let text = try fixture.shell(
            """
            cd out; find . -mindepth 1 -newer ../before -printf 'made: %y %m %P\\n' | sort
            find . -mindepth 1 ! -newer ../before -printf '%y %m %n %s %Ts %P -> %l\\n' | sed 's/^d \\([0-9]*\\) [0-9]* [0-9]*/d \\1/' | sort
            find . -type f -exec sha256sum {} + | sort -k2; find . -mindepth 1 \\( -type f -o -type d \\) -print0 |
                sort -z | xargs -0 getfattr -h -d -m user. --absolute-names
            cd ..; chmod -R u+rwx out; rm -rf out
            """
        ).outputText
        return text
    }

    @Test("The same files as through the store: whiteouts, links across layers, holes, attributes, modes, times")
    func equalContent() throws {
        // What a conversion adds (mount points) has its own time: it is told apart by being newer than this.
        try fixture.shell("sleep 2; touch -d @$(($(date +%s) - 1)) before")
        #expect(try fixture.trireme("image", "load", "-q", "-i", fixture.path + "/x.tar").status == 0)
        #expect(try fixture.trireme("image", "convert", "stream:1", fixture.path + "/stored.sqfs").status == 0)
        let wanted = try listing("stored.sqfs")
        #expect(wanted.contains(" lower/hard -> \n") && wanted.contains("user.colour=\"blue\""))
        #expect(!wanted.contains("lower/gone") && !wanted.contains("opaque/sub"))
        for (source, name) in [("docker-archive:x.tar", "d"), ("oci-archive:y.tar", "o")] {
            let archive = source.replacingOccurrences(of: ":", with: ":" + fixture.path + "/")
            let made = try fixture.trireme("image", "convert", archive, fixture.path + "/\(name).sqfs")
            #expect(made.status == 0, "\(made.errorText)")
            #expect(try listing("\(name).sqfs") == wanted)
        }
        // Squashfs-tools read it, too, and find the same.
        #expect(try fixture.shell("unsquashfs -lln d.sqfs | grep -c /lower/hard").outputText == "1\n")
    }

    @Test("A hidden file with a link that shows keeps its content; from a compressed archive on standard input")
    func hiddenLink() throws {
        try fixture.shell(
            """
            mkdir p q; head -c 200000 /dev/urandom > p/hidden; ln p/hidden p/shown; echo over > q/hidden
            umoci init --layout two; umoci new --image two:image
            tar -C p -cf p.tar ./hidden ./shown; umoci raw add-layer --image two:image p.tar
            tar -C q -cf q.tar ./hidden; umoci raw add-layer --image two:image q.tar
            skopeo copy --quiet --insecure-policy oci:two:image docker-archive:two.tar:two:1; gzip -1 two.tar
            """)
        let archive = try Data(contentsOf: URL(fileURLWithPath: fixture.path + "/two.tar.gz"))
        let made = try fixture.trireme("image", "convert", "-q", "-", fixture.path + "/two.sqfs", input: archive)
        #expect(made.status == 0, "\(made.errorText)")
        #expect(
            try fixture.trireme("image", "convert", "-q", fixture.path + "/two.sqfs", fixture.path + "/two-out").status
                == 0)
        #expect(try fixture.shell("cmp p/hidden two-out/shown; cat two-out/hidden").outputText == "over\n")
        #expect(try fixture.shell("stat -c %h two-out/shown").outputText == "1\n")
    }

    @Test("A damaged archive leaves no file, and says which layer")
    func damaged() throws {
        // Inside the content of the first layer's largest file, past all headers of the archive.
        try fixture.shell(
            """
            at=$(grep -abo 'root:x:0:0:root:/root:/bin/sh' x.tar | head -n 1 | cut -d: -f1)
            printf X | dd of=x.tar bs=1 seek=$at conv=notrunc status=none
            """)
        let made = try fixture.trireme(
            "image", "convert", "docker-archive:" + fixture.path + "/x.tar", fixture.path + "/bad.sqfs")
        #expect(made.status == 125)
        #expect(made.errorText.contains("diff-id mismatch") && made.errorText.contains("layer 1 of 3"))
        #expect(try fixture.shell("ls | grep -c 'bad.sqfs' || :").outputText == "0\n")
    }

    @Test("An image with user tables of its own runs from its file", .enabled(if: SingleFileTests.hasFuse))
    func runsWithUserTables() throws {
        let store = try HandmadeStore()
        try store.write("rootfs/etc/passwd", "root:x:0:0::/:/bin/sh\n")
        try store.write("rootfs/etc/group", "root:x:0:\n")
        try FileManager.default.copyItem(atPath: store.path + "/layers/base/bin", toPath: store.path + "/rootfs/bin")
        #expect(
            try fixture.trireme("image", "convert", "-q", store.path + "/rootfs", fixture.path + "/u.sqfs").status == 0)
        let run = try store.trireme("run", fixture.path + "/u.sqfs", "probe", "cat", "/etc/passwd")
        #expect(run.status == 0, "\(run.errorText)")
        #expect(run.outputText.contains(":\(geteuid()):"))
    }
}
