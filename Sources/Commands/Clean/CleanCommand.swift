import ArgumentParser
import ContainerRuntime
import Diagnostics
import Glibc
import ImageFormats
import ImageStore
import LinuxSystem
import SiteConfiguration
import VirtualCluster

/// `trireme clean`: what dead commands left; with `--all`, everything of this user on this machine.
package struct CleanCommand: ParsableCommand {
    package static let configuration = CommandConfiguration(
        commandName: "clean", abstract: "Remove leftovers of dead commands; with --all everything of trireme here.",
        discussion: """
            Without options nothing that a living command uses, no image and no cluster goes: only unfinished \
            loads, half unpacked copies, half written files and directories (NAME.partial-PID) in this directory, the home and temporary space, and empty control groups whose owner is gone. With --all virtual clusters \
            are ended, and the image store, records and caches removed: the machine is as it was. On a terminal \
            --all asks first.
            """)

    @Flag(name: .shortAndLong, help: "Clusters, images, records and caches, too.") var all = false
    @Flag(help: "Print what would go, and remove nothing.") var dryRun = false
    @Flag(name: [.customShort("y"), .long], help: "Do not ask.") var yes = false
    @Flag(name: .shortAndLong, help: "Print nothing.") var quiet = false

    package init() {}

    package func run() throws {
        let locations = Locations.current()
        let store = ImageStore(root: locations.store)
        if all { try removeClusters(ClusterRegistry(locations: locations), store) }
        for name in try store.leftovers(removing: !dryRun) { say("unfinished load", locations.store + "/tmp/" + name) }
        for group in ControlGroup.removeLeftovers(keeping: dryRun) { say("control group", group) }
        for path in deadFiles(locations) { try remove("leftover", path) }
        guard all else { return }
        try remove("image store", locations.store)
        try remove("records", locations.state)
        try remove("cache", "\(locations.temporary)/trireme-\(geteuid())")
    }

    /// Ends every cluster that can be ended from here, in whatever order they hang together.
    private func removeClusters(_ registry: ClusterRegistry, _ store: ImageStore) throws(Diagnostic) {
        var left = registry.names()
        // What runs in a cluster ends with it, and is no reason to refuse.
        let uses = try store.usage(ignoring: registry.members())
        if let used = uses.first(where: \.isInUse) {
            throw Diagnostic(
                DiagnosticCode("clean-refused"), used.names.first ?? "an image",
                reasons: ["a container on this machine runs from it"],
                remedies: ["end it, then once more: trireme clean --all", "trireme clean    leaves images alone"])
        }
        if !yes, !dryRun {
            try Confirmation.ask(
                "This ends \(left.count) clusters and removes \(uses.count) images "
                    + "(\(ByteCount.text(store.totalBytes(uses)))), records and caches.",
                remedy: "trireme clean --all --yes")
        }
        if dryRun { return left.forEach { say("cluster", $0) } }
        var failure: Diagnostic?
        var isProgress = true
        while isProgress, !left.isEmpty {
            (failure, isProgress) = (nil, false)
            // One made in another's node can go when that one has gone.
            for name in left {
                do throws(Diagnostic) {
                    _ = try Confirmation.showing("ending cluster \(name)", isQuiet: quiet) { () throws(Diagnostic) in
                        try registry.delete(name)
                    }
                    say("cluster", name)
                    left.removeAll { $0 == name }
                    isProgress = true
                } catch { if failure == nil { failure = error } }
            }
        }
        if let failure { throw failure }
    }

    /// Files of temporary space that carry the pid of the command they belong to, and copies half unpacked.
    private func deadFiles(_ locations: Locations) -> [String] {
        let prefix = "trireme-convert-"
        var found: [String] = []
        for name in (try? Files.names(in: locations.temporary)) ?? [] where name.hasPrefix(prefix) {
            guard let pid = pid_t(name.dropFirst(prefix.count)), pid > 0, kill(pid, 0) != 0, errno == ESRCH else {
                continue
            }
            found.append(locations.temporary + "/" + name)
        }
        let here = realpath(".", nil).map { path in
            defer { free(path) }
            return String(cString: path)
        }
        for directory in Set([locations.temporary, locations.home, here ?? "/"]).sorted() {
            found += PartialFile.dead(in: directory)
        }
        let cache = "\(locations.temporary)/trireme-\(geteuid())/cache"
        guard let lock = try? OwnedDescriptor.open(cache + "/lock", O_RDWR | O_NOFOLLOW),
            flock(lock.raw, LOCK_EX | LOCK_NB) == 0
        else { return found }  // nobody ever unpacked here, or somebody does just now
        for name in (try? Files.names(in: cache)) ?? [] where name.hasSuffix(".partial") {
            found.append(cache + "/" + name)
        }
        return found
    }

    /// Removes a tree of this user's own; what is not there needs nothing.
    private func remove(_ what: String, _ path: String) throws(Diagnostic) {
        var status = stat()
        guard lstat(path, &status) == 0 else { return }
        guard status.st_uid == geteuid() else { return }
        if !dryRun {
            try Confirmation.showing("removing \(what) \(path)", isQuiet: quiet) { () throws(Diagnostic) in
                try removeTree(path)
            }
        }
        say(what, path)
    }

    private func removeTree(_ path: String) throws(Diagnostic) {
        let cut = path.lastIndex(of: "/") ?? path.startIndex
        do throws(SyscallError) {
            let parent = try OwnedDescriptor.open(String(path[..<cut]) + "/", O_RDONLY | O_DIRECTORY)
            try DirectoryTree.remove(Array(path[path.index(after: cut)...].utf8), in: parent.raw)
        } catch {
            throw Diagnostic(
                DiagnosticCode("clean-refused"), path, reasons: ["cannot be removed", error.sentence],
                remedies: ["look who uses it, then once more: trireme clean"])
        }
    }

    private func say(_ what: String, _ subject: String) {
        if !quiet { Output.standard.line("\(dryRun ? "would remove" : "removed") \(what) \(subject)") }
    }
}
