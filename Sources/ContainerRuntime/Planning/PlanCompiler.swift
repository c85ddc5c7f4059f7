import Diagnostics
import Glibc
import ImageFormats
import ImageStore
import LaunchPlan
import LinuxSystem
import OCIModel

/// What is prepared when an image enters the store: its top layer, its launch plan, the MPIs it holds.
package struct PlanCompiler: ImagePreparer {
    package var account: PreparedRoot.Account

    /// - Parameter account: whose home and passwd line are put into the prepared layer.
    package init(account: PreparedRoot.Account) { self.account = account }

    package func prepare(_ image: StagedImage) throws(Diagnostic) -> ImagePreparation {
        do throws(SyscallError) {
            let tree = try MergedTree(image.layerDirectories)
            var plan = PlanCompiler.plan(image.configuration, in: tree)
            var prepared = PreparedRoot(
                directory: image.preparedDirectory, tree: tree, account: account, isShared: image.isShared)
            try prepared.make()
            plan.mountPoints = prepared.mountPoints
            plan.preparedForUID = prepared.hasAccount ? account.userID : nil
            return ImagePreparation(plan: plan, mpi: MPIDetection.installations(in: tree))
        } catch {
            throw Diagnostic(DiagnosticCode("store-unusable"), "preparing the image", reasons: [error.sentence])
        }
    }

    /// The image's own facts, byte for byte (image-spec config.md).
    package static func plan(_ configuration: ImageConfiguration, in tree: MergedTree) -> LaunchPlan {
        var plan = LaunchPlan()
        let execution = configuration.config ?? ImageConfiguration.Execution()
        plan.environment = (execution.environment ?? []).map { Array($0.utf8) }
        plan.entrypoint = (execution.entrypoint ?? []).map { Array($0.utf8) }
        plan.command = (execution.command ?? []).map { Array($0.utf8) }
        plan.workingDirectory = Array((execution.workingDirectory ?? "").utf8)
        plan.user = Array((execution.user ?? "").utf8)
        plan.stopSignal = Array((execution.stopSignal ?? "").utf8)
        if let ids = AccountDatabase(tree).resolve(execution.user ?? "") {
            plan.userID = ids.user
            plan.groupID = ids.group
        }
        if tree.names(in: "/usr/share/zoneinfo").isEmpty { plan.options.insert(.lacksTimeZones) }
        if hasNoLocales(tree) { plan.options.insert(.lacksLocales) }
        ApptainerImage.complete(&plan, execution, in: tree)
        return plan
    }

    /// Whether C, POSIX and the C.UTF-8 that glibc brings are all there is. (musl has its own place.)
    private static func hasNoLocales(_ tree: MergedTree) -> Bool {
        let others = tree.names(in: "/usr/lib/locale").filter { !["C.utf8", "C.UTF-8"].contains($0) }
        return others.isEmpty && tree.names(in: "/usr/share/i18n/locales/musl").isEmpty
    }
}

/// The image's own accounts (passwd(5), group(5)).
package struct AccountDatabase {
    private let users: [[Substring]]
    private let groups: [[Substring]]

    package init(_ tree: MergedTree) {
        func lines(_ path: String) -> [[Substring]] {
            String(decoding: tree.contents(of: path) ?? [], as: UTF8.self).split(separator: "\n")
                .map { $0.split(separator: ":", omittingEmptySubsequences: false) }
        }
        users = lines("/etc/passwd")
        groups = lines("/etc/group")
    }

    /// `user`, `uid`, `user:group` in any mixture of names and numbers; a number stands for itself
    /// when no account carries it, with group 0 (image-spec config.md, "User"). Nil when a name is unknown
    /// or nothing is asked for.
    package func resolve(_ text: String) -> (user: UInt32, group: UInt32)? {
        guard !text.isEmpty else { return nil }
        let parts = text.split(separator: ":", maxSplits: 1, omittingEmptySubsequences: false)
        let account =
            users.first { $0.count >= 4 && $0[0] == parts[0] } ?? users.first { $0.count >= 4 && $0[2] == parts[0] }
        guard let user = account.flatMap({ UInt32($0[2]) }) ?? UInt32(parts[0]) else { return nil }
        guard parts.count == 2, !parts[1].isEmpty else { return (user, account.flatMap { UInt32($0[3]) } ?? 0) }
        let named = groups.first { $0.count >= 3 && $0[0] == parts[1] }.flatMap { UInt32($0[2]) }
        guard let group = named ?? UInt32(parts[1]) else { return nil }
        return (user, group)
    }
}
