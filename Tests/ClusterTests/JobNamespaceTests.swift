import TestSupport
import Testing

/// One user and mount namespace per node: what lets ranks of a node copy memory between them.
@Suite(.serialized) struct JobNamespaceTests {
    @Test func ranksOfANodeShareAContainerAndEveryNodeHasAName() throws {
        let fixture = try JobFixture()
        for model in ["node", "rank"] {
            let job = try fixture.run([
                "-n", "4", "-N", "2", "--model", model, JobFixture.openMPI, "sh", "-c",
                "echo $(hostname) $(readlink /proc/self/ns/user) $(readlink /proc/self/ns/mnt) $(getent hosts n1 n2 | wc -l)",
            ])
            #expect(job.status == 0 && job.lines.count == 4, "\(job.errorText)")
            #expect(Set(job.lines).count == 2, "one container per node: \(job.lines)")
            #expect(job.lines.allSatisfy { $0.hasSuffix(" 2") }, "every node's name resolves: \(job.lines)")
        }
        #expect(try fixture.isClean())
    }
}
