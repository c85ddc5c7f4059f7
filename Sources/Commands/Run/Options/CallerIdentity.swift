import Glibc

/// What docker's `--user UID|NAME[:GID|GROUP]` asks for, against who calls.
///
/// Without root a container can only be its caller, or show uid 0 (`--fakeroot`).
enum CallerIdentity {
    static func answer(_ text: String, isRootInside: Bool) -> PeerOptions.Answer {
        if text == "image" { return .ours }
        let parts = text.split(separator: ":", maxSplits: 1, omittingEmptySubsequences: false).map(String.init)
        let user = isRootInside ? 0 : geteuid()
        let group = isRootInside ? 0 : getegid()
        let isUser = number(parts[0]).map { $0 == user } ?? (parts[0] == name(of: user))
        let isGroup = parts.count == 1 || (number(parts[1]).map { $0 == group } ?? false)
        if isUser, isGroup { return .means([]) }
        let isRoot = number(parts[0]) == 0 && (parts.count == 1 || number(parts[1]) == 0)
        return .refused(
            "a container's user is its caller, here \(user):\(group)",
            [
                isRoot ? "--fakeroot shows uid 0 inside" : "leave it out", "--user image shows the image's USER inside",
            ])
    }

    /// Whether the caller is in group `text`, a number.
    static func hasGroup(_ text: String) -> Bool {
        guard let group = UInt32(text) else { return false }
        var groups = [gid_t](repeating: 0, count: 65_536)
        let count = getgroups(Int32(groups.count), &groups)
        return group == getegid() || groups.prefix(max(0, Int(count))).contains(group)
    }

    /// `root` is 0 in every image.
    private static func number(_ text: String) -> UInt32? { text == "root" ? 0 : UInt32(text) }

    /// Read from the environment, not from a directory service: the programs are static.
    private static func name(of user: UInt32) -> String? {
        guard user == geteuid(), let text = getenv("USER") ?? getenv("LOGNAME") else { return nil }
        return String(cString: text)
    }
}
