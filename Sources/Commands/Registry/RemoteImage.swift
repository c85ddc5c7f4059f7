import ContainerRuntime
import Diagnostics
import Glibc
import ImageStore
import LinuxSystem
import OCIModel
import Processes
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
            // Its standard output is the name; progress and failures go where ours go.
            let said = try CommandOutput.of(
                [program, "image", "pull", "--only-name", name], limit: .init(milliseconds: Int(Int32.max), bytes: 1 << 16))
            guard said.status == 0 else { exit(Diagnostics.ExitCode.ownFailure) }
            return String(decoding: said.bytes, as: UTF8.self).split(separator: "\n").last.map(String.init) ?? name
        } catch {
            throw Diagnostic(DiagnosticCode("installation"), "trireme-cli", reasons: [error.sentence])
        }
    }
}
