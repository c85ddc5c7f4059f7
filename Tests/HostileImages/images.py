#!/usr/bin/env python3
"""squashfs images that no honest writer makes: images.py DIRECTORY writes each as NAME.sqfs and prints its name.
Every one once ended the reader, or took memory by the gigabyte, or could do so to a reader less careful."""
import os, struct, sys
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from squashfs import Image, Meta, NOFRAG, mblock

out = sys.argv[1]
os.makedirs(out, exist_ok=True)


def write(name, image):
    with open(f"{out}/{name}.sqfs", "wb") as file:
        file.write(image)
    print(name)


def one_file(image, *arguments, **more):
    return image.build(image.directory([(b"a", *image.file(*arguments, **more))])[0])


image = Image()
write("sound", one_file(image, 0, image.fragment(b"hello\n"), 0, 6))
image = Image()
write("fragment-of-nothing", one_file(image, 0, image.fragment(b"", word=0, start=96), 0, 6))


def block_list(blocks):
    """A file whose block list is in metadata blocks of zeros, which take 31 bytes each."""
    image = Image(block_log=12)
    image.inodes.flushblock()
    file = image.file(0, NOFRAG, 0, 2048 * blocks * 4096, extended=True)
    image.inodes.cur += b"\0" * (8192 - len(image.inodes.cur))
    image.inodes.flushblock()
    image.inodes.done += mblock(b"\0" * 8192) * blocks
    return image.build(image.directory([(b"a", *file)])[0])


write("block-list", block_list((512 << 10) // 31))
write("block-list-long", block_list((8 << 20) // 31))


def attributes(count, size):
    """All of them share one value."""
    image = Image()
    table = Meta()
    place = table.add(struct.pack("<I", size) + b"\0" * size)
    table.flushblock()
    start = table.pos()
    for i in range(count):
        name = b"n%d" % i
        table.add(struct.pack("<HH", 0x100, len(name)) + name + struct.pack("<IQ", 8, place[0] << 16 | place[1]))
    image.xattr_kv = table.finish()
    image.xattr_ids = [(start[0] << 16 | start[1], count, 1000)]
    return one_file(image, 0, NOFRAG, 0, 0, extended=True, xattr=0)


write("attributes", attributes(8192, 65536))

image = Image()
block, offset, size = image.listing([(b"self", 0, 1, 1)])
write("cycle", image.build(image.diri(block, offset, size + 3)[0]))

image = Image()
write("huge", one_file(image, 0, NOFRAG, 0, 1 << 62, extended=True))
image = Image()
image.dirs.done += mblock(b"\0" * 8192) * 100000
write("listing-of-zeros", image.build(image.diri(0, 0, 0xFFFFFFFF)[0]))


def names(count):
    """A listing that is all names, long and alike: it packs well."""
    image = Image()
    link = image.symlink(b"x")
    return image.build(image.directory([(b"%08d" % i + b"n" * 240, *link) for i in range(count)])[0])


write("names", names(300000))
image = Image()
link = image.symlink(b"/tmp")
block, offset, size = image.listing([(b"a", link[0], link[1], 1)])
write("confused", image.build(image.diri(block, offset, size + 3)[0]))
image = Image()
sound = one_file(image, 0, NOFRAG, 0, 0)
# Tables as long as their 32 bits say, in a file that is mostly hole.
for name, at, table in (("fragments", 16, 80), ("attribute-sets", None, 56)):
    damaged = bytearray(sound)
    end = 96 + (80 << 20)
    if at is not None:
        struct.pack_into("<I", damaged, at, 0xFFFFFFFF)
    struct.pack_into("<Q", damaged, table, len(sound))
    struct.pack_into("<Q", damaged, 40, end)
    if at is None:
        damaged += struct.pack("<QII", 96, 0xFFFFFFFF, 0)
    with open(f"{out}/{name}.sqfs", "wb") as file:
        file.write(damaged)
        file.truncate(end)
    print(name)
image = Image(block_log=20)
image.ids = [0]
depth = image.directory([(b"leaf", *image.symlink(b"x"))])
for _ in range(5000):
    depth = image.directory([(b"d", *depth)])
write("deep", image.build(depth[0]))
