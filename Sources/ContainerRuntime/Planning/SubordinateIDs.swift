import Glibc
import LinuxSystem

/// The ranges of ids that an administrator gave to a user for use in user namespaces. subuid(5)
package struct SubordinateIDs: Equatable, Sendable {
    /// Words for newuidmap(1) and newgidmap(1) after the pid, the program in front: 0 is the caller,
    /// 1 and up are the ranges.
    package var uidMap: String
    package var gidMap: String

    /// The caller's ranges; nil when a program or a range is missing.
    package static func ofCaller() -> SubordinateIDs? {
        let uid = geteuid()
        let name = AccountLookup.fields("passwd", uid)?.first ?? ""
        guard let uidProgram = program("newuidmap"), let gidProgram = program("newgidmap"),
            let uids = map(in: text("/etc/subuid"), name: name, uid: uid, own: uid),
            let gids = map(in: text("/etc/subgid"), name: name, uid: uid, own: getegid())
        else { return nil }
        return SubordinateIDs(uidMap: uidProgram + " " + uids, gidMap: gidProgram + " " + gids)
    }

    /// `0 OWN 1 1 START COUNT …` from the lines `NAME:START:COUNT` or `UID:START:COUNT`.
    package static func map(in file: String, name: String, uid: UInt32, own: UInt32) -> String? {
        var words = ["0", "\(own)", "1"]
        var next: UInt64 = 1
        for line in file.split(separator: "\n") {
            let fields = line.split(separator: ":", omittingEmptySubsequences: false)
            guard fields.count == 3, !name.isEmpty && fields[0] == name || fields[0] == "\(uid)",
                let start = UInt32(fields[1]), let count = UInt32(fields[2]), count > 0,
                UInt64(start) + UInt64(count) <= UInt64(UInt32.max), next + UInt64(count) <= UInt64(UInt32.max)
            else { continue }
            words += ["\(next)", "\(start)", "\(count)"]
            next += UInt64(count)
            // The kernel takes 340 lines of a map; no account has a tenth of that.
            if words.count >= 90 { break }
        }
        return next > 1 ? words.joined(separator: " ") : nil
    }

    private static func program(_ name: String) -> String? {
        ["/usr/bin/", "/bin/", "/usr/local/bin/", "/usr/sbin/"].map { $0 + name }.first { access($0, X_OK) == 0 }
    }

    private static func text(_ path: String) -> String {
        guard let file = try? OwnedDescriptor.open(path, O_RDONLY), let bytes = try? file.readAll(limit: 4 << 20) else {
            return ""
        }
        return String(decoding: bytes, as: UTF8.self)
    }
}
