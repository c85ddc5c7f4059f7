/// What an entry's name says about lower layers (image-spec layer.md, "Whiteouts").
enum Whiteout: Equatable {
    /// An ordinary entry.
    case none
    /// `.wh.NAME`: `NAME` of the lower layers is gone.
    case remove([UInt8])
    /// `.wh..wh..opq`: the lower layers' content of this directory is gone.
    case opaque
    /// Book-keeping of the aufs driver (`.wh..wh.plnk`); means nothing elsewhere.
    case ignored

    private static let prefix = Array(".wh.".utf8)

    init(_ path: EntryPath, raw: [UInt8]) throws(ArchiveFault) {
        guard path.name.starts(with: Whiteout.prefix) else {
            self = .none
            return
        }
        let target = Array(path.name.dropFirst(4))
        if target == Array(".wh..opq".utf8) {
            self = .opaque
        } else if target.starts(with: Whiteout.prefix) {
            self = .ignored
        } else if target.isEmpty || target == [46] || target == [46, 46] {
            throw ArchiveFault(.hostile, entry: raw, "a whiteout that names nothing")
        } else {
            self = .remove(target)
        }
    }
}
