import Glibc
import ImageFormats
import ImageStore
import LinuxSystem

/// The top layer made for every image: the mount points it lacks, and accounts that know its user.
/// With it a container starts on a read-only root, nothing created at launch.
package struct PreparedRoot {
    /// The user who imports the image.
    package struct Account: Sendable {
        package var name: String
        package var userID: UInt32
        package var groupID: UInt32
        package var groupName: String
        package var home: String
        package var shell: String

        package init(
            name: String, userID: UInt32, groupID: UInt32, groupName: String, home: String, shell: String = "/bin/sh"
        ) {
            self.name = name
            self.userID = userID
            self.groupID = groupID
            self.groupName = groupName
            self.home = home
            self.shell = shell
        }

        /// The caller, as the system's databases know it, else by numbers.
        package static func current(home: String) -> Account {
            let uid = getuid()
            let gid = getgid()
            let name = AccountLookup.fields("passwd", uid)?.first ?? "user\(uid)"
            let group = AccountLookup.fields("group", gid)?.first ?? "group\(gid)"
            return Account(name: name, userID: uid, groupID: gid, groupName: group, home: home)
        }
    }

    private let directory: String
    private let tree: MergedTree
    private let account: Account
    private let isShared: Bool
    /// Every path of `wanted` that stands in the finished root.
    package private(set) var mountPoints: [String] = []
    /// The account files name the user.
    package private(set) var hasAccount = false

    /// - Parameter isShared: others may enter the store, and find nothing to write to.
    package init(directory: String, tree: MergedTree, account: Account, isShared: Bool = false) {
        self.isShared = isShared
        self.directory = directory
        self.tree = tree
        self.account = account
    }

    package static let directories = [
        "/proc", "/sys", "/dev", "/tmp", "/home", "/var/tmp", "/run", "/mnt", "/scratch", "/opt", "/srv", "/root",
        "/.trireme",
    ]
    package static let files = ["/etc/hosts", "/etc/resolv.conf", "/etc/hostname", "/etc/localtime"]

    /// Which of the places that every container needs a finished root has, as they are.
    package static func mountPoints(in tree: MergedTree) -> [String] {
        directories.filter {
            tree.find($0)?.isDirectory == true && tree.find($0, followingLast: false)?.isDirectory == true
        }
            + files.filter { tree.find($0, followingLast: false)?.isFile == true }
    }

    package mutating func make() throws(SyscallError) {
        for path in PreparedRoot.directories + homeAndParents { try prepareDirectory(path) }
        for path in PreparedRoot.files { try prepareFile(path) }
        let line = "\(account.name):x:\(account.userID):\(account.groupID)::\(account.home):\(account.shell)"
        let users = try addLines([(String(account.userID), line)], to: "/etc/passwd")
        let groups = try addLines(
            [(String(account.groupID), "\(account.groupName):x:\(account.groupID):"), PreparedRoot.unmappedGroup],
            to: "/etc/group")
        hasAccount = users && groups
        var seen: Set<String> = []
        mountPoints = mountPoints.filter { seen.insert($0).inserted }
    }

    /// The home is mounted at its own path; homes like `/data/home/u` need every step of it.
    private var homeAndParents: [String] {
        account.home.hasPrefix("/") && account.home != "/" && !account.home.split(separator: "/").contains("..")
            ? [account.home] : []
    }

    /// Where `path` really lies when all of its parents exist or can be made; nil when a file is in the way.
    private func realPath(_ path: String) throws(SyscallError) -> String? {
        let name = path.split(separator: "/").last.map(String.init) ?? ""
        let above = path.split(separator: "/").dropLast().joined(separator: "/")
        if above.isEmpty { return name }
        if let parent = tree.find(above) {
            guard parent.isDirectory else { return nil }
            try mirror(parent.path)
            return parent.path + "/" + name
        }
        guard tree.find(above, followingLast: false) == nil, let real = try realPath(above) else { return nil }
        try Files.makeDirectory("\(directory)/\(real)")
        return real + "/" + name
    }

    /// Makes the directories of `path`, which exist below, in the prepared layer with the modes they have:
    /// in an overlay the topmost directory's mode is the one that shows.
    private func mirror(_ path: String) throws(SyscallError) {
        var made = ""
        for component in path.split(separator: "/") {
            made += (made.isEmpty ? "" : "/") + component
            let full = "\(directory)/\(made)"
            if Files.exists(full) { continue }
            try Files.makeDirectory(full)
            if let below = tree.find(made) { chmod(full, below.mode & (isShared ? 0o1755 : 0o1777) | 0o700) }
        }
    }

    private mutating func prepareDirectory(_ path: String) throws(SyscallError) {
        if let found = tree.find(path) {
            if found.isDirectory { mountPoints.append(path) }
            return
        }
        // A dangling link stays what it is: the launcher says so if something must be mounted there.
        guard tree.find(path, followingLast: false) == nil, let real = try realPath(path) else { return }
        let full = "\(directory)/\(real)"
        try Files.makeDirectory(full)
        if !isShared, path == "/tmp" || path == "/var/tmp" { chmod(full, 0o1777) }
        mountPoints.append(path)
    }

    /// A regular file at `path`: a link is replaced by its content, since a bind mount on a link would
    /// cover what it points to (`/etc/localtime` would cover a zone's file).
    private mutating func prepareFile(_ path: String) throws(SyscallError) {
        let found = tree.find(path, followingLast: false)
        if let found, found.isDirectory { return }
        if found?.isFile == true {
            mountPoints.append(path)
            return
        }
        guard let real = try realPath(path) else { return }
        try Files.write(tree.contents(of: path) ?? [], to: "\(directory)/\(real)")
        mountPoints.append(path)
    }

    /// Writes `path` anew with `line` added unless an entry with number `key` is there; false when it cannot be.
    /// What the caller's other groups are shown as: they hold, but have no number in the container's user
    /// namespace (user_namespaces(7), "Unmapped user and group IDs"). Without a line groups(1) complains.
    package static let unmappedGroup = (key: "65534", line: "nogroup:x:65534:")

    /// Adds those lines whose third field no line has yet.
    private func addLines(_ lines: [(key: String, line: String)], to path: String) throws(SyscallError) -> Bool {
        if let found = tree.find(path, followingLast: false), !found.isFile { return false }
        var bytes = tree.contents(of: path, limit: 4 << 20) ?? []
        let missing = lines.filter { !PreparedRoot.lists($0.key, bytes) }
        if missing.isEmpty { return true }
        guard let real = try realPath(path) else { return false }
        if let last = bytes.last, last != 10 { bytes.append(10) }
        for line in missing { bytes += Array(line.line.utf8) + [10] }
        try Files.write(bytes, to: "\(directory)/\(real)")
        return true
    }

    /// Whether a line of passwd(5) or group(5) has the number `key`.
    package static func lists(_ key: String, _ bytes: [UInt8]) -> Bool {
        bytes.split(separator: 10).contains { entry in
            let fields = entry.split(separator: UInt8(ascii: ":"), omittingEmptySubsequences: false)
            return fields.count >= 3 && fields[2].elementsEqual(key.utf8)
        }
    }
}
