import Foundation
import TestSupport
import Testing

/// Containers in containers: it works, or one sentence says why and what to do.
///
/// podman stands for docker too: the same default filter, masks and capabilities reach the container.
/// bubblewrap stands for apptainer, which makes its containers by the same calls and leaves /proc bare.
@Suite(.serialized) struct NestedTests {
    let peers: Peers
    init() throws { peers = try Peers() }

    private static let own = "\(getuid()) \(geteuid()) \(getgid()) \(getegid())"

    @Test(Peers.needsPodman) func inPodman() throws {
        // No capability, no_new_privs, the default filter.
        let plain = try peers.nested(.podman, [], [], ["id"])
        #expect(plain.lines == [Self.own], "\(plain.errorText)")
        #expect(try peers.nested(.podman, [], [], ["exit", "9"]).status == 9)
        // It covers parts of /proc, and the kernel then refuses a new one: podman's masks would be gone in it.
        let isolated = try peers.nested(.podman, [], ["--profile", "isolated"], ["id"])
        #expect(isolated.status == 125 && isolated.outputText.isEmpty)
        #expect(isolated.errorText.contains("[proc-refused]") && isolated.errorText.contains("--share pid"))
        let hinted = try peers.nested(.podman, [], ["--profile", "isolated", "--share", "pid"], ["id"])
        #expect(hinted.lines == [Self.own], "\(hinted.errorText)")
    }

    @Test(Peers.needsBubblewrap, arguments: [[], ["--profile", "isolated"]])
    func inBubblewrap(options: [String]) throws {
        let run = try peers.nested(.bubblewrap, [], options, ["id"])
        #expect(run.lines == [Self.own], "\(run.errorText)")
        #expect(try peers.nested(.bubblewrap, [], options, ["write", "/x"]).lines == ["EROFS"])
    }

    /// A container that allows no further user namespaces.
    @Test(Peers.needsBubblewrap) func whereNamespacesAreUsedUp() throws {
        let run = try peers.nested(.bubblewrap, ["--unshare-user", "--disable-userns"], [], ["id"])
        #expect(run.status == 125 && run.outputText.isEmpty)
        #expect(run.errorText.contains("[no-user-namespaces]") && run.errorText.contains("user.max_user_namespaces"))
    }
}
