import CLinux
import ContainerRuntime
import Diagnostics
import Glibc
import ImageStore
import LinuxSystem
import OCIModel
import RegistryClient
import SiteConfiguration

/// `run docker://HOST/NAME:TAG`: from the store, and on a miss from the registry. Asked for by this
/// spelling alone: a mistyped name must not go out into the world.
enum RemoteImage {
    static func resolve(_ name: String, _ resolver: ImageResolver) throws(Diagnostic) -> StoredImage {
        guard name.hasPrefix(RemoteReference.scheme) else { return try resolver.resolve(name) }
        let reference = try RegistryCommands.reference(name)
        let plain = String(name.dropFirst(RemoteReference.scheme.count))
        let local = reference.digest == nil ? reference.localName?.description ?? plain : plain
        if let image = try stored(local, resolver.store), try isCovered(image, resolver.store) { return image }
        return try resolver.resolve(try pull(name))
    }

    /// Nil, too, for a digest that the store has under another name: whether it is this one's, the registry knows.
    private static func stored(_ name: String, _ store: ImageStore) throws(Diagnostic) -> StoredImage? {
        do throws(Diagnostic) { return try store.image(named: name) } catch {
            if error.code == DiagnosticCode("image-name-differs") { return nil }
            throw error
        }
    }

    /// Whether no policy asks for a signature that the store does not have: a pull looks for one.
    private static func isCovered(_ image: StoredImage, _ store: ImageStore) throws(Diagnostic) -> Bool {
        guard RegistryPolicy.isAny else { return true }
        return try SignedNames(store: store, settings: RegistryCommands.settings()).covers(image)
    }

    /// - Throws: `image-unsigned` for a name under which a policy wants a signature that the store does not have.
    static func admit(_ image: StoredImage, typed name: String, _ store: ImageStore) throws(Diagnostic) {
        guard RegistryPolicy.isAny, !ImageResolver.isPath(name) else { return }
        try SignedNames(store: store, settings: RegistryCommands.settings()).admit(image)
    }

    /// Pulls in a process of its own: the threads, signal settings and memory of the transfer end with it.
    ///
    /// - Returns: the image's name in the store.
    private static func pull(_ name: String) throws(Diagnostic) -> String {
        do throws(SyscallError) {
            let program = try Locations.programDirectory() + "/trireme-cli"
            var pipe = try OwnedDescriptor.pipe()
            var actions = posix_spawn_file_actions_t()
            posix_spawn_file_actions_init(&actions)
            defer { posix_spawn_file_actions_destroy(&actions) }
            // Its standard output is the name; progress and failures go where ours go.
            posix_spawn_file_actions_adddup2(&actions, pipe.write.raw, 1)
            posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0)
            let typed: [String] = ["trireme", "image", "pull", "--only-name", name]
            var words: [UnsafeMutablePointer<CChar>?] = typed.map { strdup($0) }
            words.append(nil)
            defer { words.forEach { free($0) } }
            var child: pid_t = 0
            let result = posix_spawn(&child, program, &actions, nil, &words, linux_environ())
            guard result == 0 else { throw SyscallError("posix_spawn", program, errno: result) }
            pipe.write = OwnedDescriptor(owning: -1)
            let output = try pipe.read.readAll(limit: 1 << 16)
            var status: Int32 = 0
            _ = try checked("waitpid") { waitpid(child, &status, 0) }
            guard status == 0 else { exit(Diagnostics.ExitCode.ownFailure) }
            return String(decoding: output, as: UTF8.self).split(separator: "\n").last.map(String.init) ?? name
        } catch {
            throw Diagnostic(DiagnosticCode("installation"), "trireme-cli", reasons: [error.sentence])
        }
    }
}
