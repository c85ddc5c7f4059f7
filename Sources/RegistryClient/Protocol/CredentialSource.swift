import Glibc
import LinuxSystem

/// Where a login would come from. It is looked for when a registry asks for one and not before: what is wrong with a
/// file or helper of logins is no matter for who needs none.
enum CredentialSource: Sendable {
    case none
    case known(Credential)
    /// docker's files and helpers, then podman's.
    case stored(RegistrySettings, host: String, repository: String)
    /// Between the nodes of a job.
    case job(secret: String)

    struct Found: Sendable {
        var credential: Credential?
        /// What could not be asked, in order.
        var problems: [RegistryFault] = []
    }

    func find() -> Found {
        switch self {
        case .none, .job: Found()
        case .known(let credential): Found(credential: credential)
        case .stored(let settings, let host, let repository): CredentialSource.find(settings, host, repository)
        }
    }

    private static func find(_ settings: RegistrySettings, _ host: String, _ repository: String) -> Found {
        var found = Found()
        if let text = settings.credentialText {
            do throws(RegistryFault) {
                let configuration = try DockerConfiguration(text: text, from: "DOCKER_AUTH_CONFIG")
                found.credential = try configuration.credential(for: host, repository)
            } catch { found.problems.append(error) }
            if found.credential != nil { return found }
        }
        for path in [settings.credentialFile] + settings.otherCredentialFiles {
            if path == settings.runtimeCredentialFile, let fault = foreign(path) {
                found.problems.append(fault)
                continue
            }
            do throws(RegistryFault) {
                let configuration = try DockerConfiguration(path: path)
                found.credential = try configuration.credential(for: host, repository) { found.problems.append($0) }
            } catch { found.problems.append(error) }
            if found.credential != nil { return found }
        }
        return found
    }

    /// Another user's file says whose account is used, and which helper runs: it is not read.
    private static func foreign(_ path: String) -> RegistryFault? {
        var status = stat()
        guard stat(path, &status) == 0, status.st_uid != geteuid(), status.st_uid != 0 else { return nil }
        return RegistryFault(.credentials, ["\(path) is another user's"], remedies: ["unset XDG_RUNTIME_DIR"])
    }
}
