#!/usr/bin/env python3
"""A squashfs 4.0 builder with every number in the caller's hands (gzip, little-endian)."""
import struct, zlib

NOFRAG = 0xFFFFFFFF
NOTBL = 0xFFFFFFFFFFFFFFFF

def mblock(data, compress=True):
    c = zlib.compress(data, 9) if compress else data
    if compress and len(c) < len(data):
        return struct.pack('<H', len(c)) + c
    return struct.pack('<H', len(data) | 0x8000) + data

class Meta:
    """a table of metadata blocks; add() returns (block offset in table, offset in block)"""
    def __init__(self, compress=True):
        self.done = b''; self.cur = b''; self.compress = compress
    def pos(self):
        return (len(self.done), len(self.cur))
    def add(self, b):
        p = self.pos()
        self.cur += b
        whole = len(self.cur) // 8192 * 8192
        self.done += b''.join(mblock(self.cur[i:i + 8192], self.compress) for i in range(0, whole, 8192))
        self.cur = self.cur[whole:]
        return p
    def flushblock(self):
        if self.cur:
            self.done += mblock(self.cur, self.compress); self.cur = b''
    def raw(self, b):
        self.flushblock(); self.done += b
    def finish(self):
        self.flushblock(); return self.done

class Image:
    def __init__(self, block_log=17, compress=True):
        self.block_log = block_log
        self.inodes = Meta(compress); self.dirs = Meta(compress)
        self.data = b''; self.frags = []; self.ids = [0]
        self.ninodes = 0; self.xattr_kv = None; self.xattr_ids = None
        self.hdr = 96
    def number(self):
        self.ninodes += 1; return self.ninodes
    def ref(self, pos): return (pos[0] << 16) | pos[1]
    def common(self, typ, mode=0o755, n=None, mtime=1):
        return struct.pack('<HHHHII', typ, mode, 0, 0, mtime, n or self.number())
    def file(self, start, frag, off, size, sizes=(), mode=0o644, links=1, extended=False, xattr=0xFFFFFFFF):
        n = self.number()
        if extended:
            b = self.common(9, mode, n) + struct.pack('<QQQIIII', start, size, 0, links, frag, off, xattr)
        else:
            b = self.common(2, mode, n) + struct.pack('<IIII', start, frag, off, size)
        b += b''.join(struct.pack('<I', s) for s in sizes)
        return self.ref(self.inodes.add(b)), n, 2
    def symlink(self, target, size=None, links=1):
        n = self.number()
        b = self.common(3, 0o777, n) + struct.pack('<II', links, len(target) if size is None else size) + target
        return self.ref(self.inodes.add(b)), n, 3
    def dev(self, typ, rdev):
        n = self.number()
        b = self.common(typ, 0o666, n) + struct.pack('<II', 1, rdev)
        return self.ref(self.inodes.add(b)), n, typ
    def listing(self, entries):
        """entries: (name, ref, number, type), sorted by the caller; returns (block, offset, size)"""
        out = bytearray()
        i = 0
        es = entries
        while i < len(es):
            blk = es[i][1] >> 16; base = es[i][2]
            run = [es[i]]; j = i + 1
            while j < len(es) and len(run) < 256 and es[j][1] >> 16 == blk and -32768 <= es[j][2]-base <= 32767:
                run.append(es[j]); j += 1
            out += struct.pack('<III', len(run)-1, blk, base)
            for name, ref, num, typ in run:
                out += struct.pack('<HhHH', ref & 0xFFFF, num-base, typ, len(name)-1) + name
            i = j
        p = self.dirs.add(bytes(out))
        return p[0], p[1], len(out)
    def directory(self, entries, parent=1, n=None, extended=True, xattr=0xFFFFFFFF):
        blk, off, size = self.listing(sorted(entries)) if entries else (0, 0, 0)
        return self.diri(blk, off, size + 3, parent, n, xattr)
    def diri(self, blk, off, size, parent=1, n=None, xattr=0xFFFFFFFF, nlink=2):
        n = n or self.number()
        b = self.common(8, 0o755, n) + struct.pack('<IIIIHHI', nlink, size, blk, parent, 0, off, xattr)
        return self.ref(self.inodes.add(b)), n, 1
    def put(self, b):
        at = self.hdr + len(self.data); self.data += b; return at
    def fragment(self, content, word=None, start=None):
        c = zlib.compress(content, 9)
        at = self.put(c) if start is None else start
        self.frags.append((at, len(c) if word is None else word))
        return len(self.frags) - 1
    def build(self, root, fragcount=None, bytes_used=None, root_ref=None, tail=b''):
        out = b'\0' * 96 + self.data
        inode_tbl = len(out); out += self.inodes.finish()
        dir_tbl = len(out); out += self.dirs.finish() or mblock(b'\0' * 16)
        if self.frags:
            fb = b''.join(struct.pack('<QII', a, w, 0) for a, w in self.frags)
            idx = []
            for k in range(0, len(fb), 8192):
                idx.append(len(out)); out += mblock(fb[k:k+8192])
            frag_tbl = len(out); out += b''.join(struct.pack('<Q', x) for x in idx)
        else: frag_tbl = NOTBL
        at = len(out); out += mblock(b''.join(struct.pack('<I', i) for i in self.ids))
        id_tbl = len(out); out += struct.pack('<Q', at)
        xtbl = NOTBL
        if self.xattr_ids is not None:
            kv = len(out); out += self.xattr_kv
            ib = b''.join(struct.pack('<QII', r, c, s) for r, c, s in self.xattr_ids)
            idx = []
            for k in range(0, len(ib), 8192):
                idx.append(len(out)); out += mblock(ib[k:k+8192])
            xtbl = len(out); out += struct.pack('<QII', kv, len(self.xattr_ids), 0)
            out += b''.join(struct.pack('<Q', x) for x in idx)
        out += tail
        sb = struct.pack('<IIIIIHHHHHH', 0x73717368, self.ninodes, 1, 1 << self.block_log,
                         len(self.frags) if fragcount is None else fragcount, 1, self.block_log,
                         0x0, len(self.ids), 4, 0)
        sb += struct.pack('<QQQQQQQQ', root if root_ref is None else root_ref,
                          len(out) if bytes_used is None else bytes_used, id_tbl, xtbl, inode_tbl, dir_tbl, frag_tbl, NOTBL)
        return sb + out[96:]

def simple(im, files):
    """files: {name: (ref, num, typ)} -> root"""
    return im.directory([(k, *v) for k, v in files.items()])
