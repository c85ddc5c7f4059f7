import Testing

@testable import NodeAgent

@Suite struct HostTableTests {
    private static let own = """
        # the node's own
        127.0.0.1\tlocalhost
        127.0.1.1 n1.site n1
        10.0.0.2  n2 login # two names
        """

    private func text(isPrivate: Bool, names: [String] = ["n1", "n2"], here: String = "n1") -> [String] {
        HostTable.text(
            Self.own, names: names, addresses: ["100.64.0.1", "100.64.0.2"], isPrivate: isPrivate, here: (here, 0)
        ).split(separator: "\n").map(String.init)
    }

    @Test func theNodesNetworkKeepsTheNodesNames() {
        #expect(text(isPrivate: false) == Self.own.split(separator: "\n").map(String.init))
        #expect(text(isPrivate: false, names: ["n2", "n3"]).last == "100.64.0.2 n3")
    }

    @Test func aPrivateNetworkTakesThemOver() {
        #expect(
            text(isPrivate: true) == [
                "# the node's own", "127.0.0.1\tlocalhost", "127.0.1.1 n1.site", "10.0.0.2 login", "100.64.0.1 n1",
                "100.64.0.2 n2",
            ])
    }

    @Test func longNamesBringTheirShortForm() {
        let lines = text(isPrivate: true, names: ["n1.site", "n2.site"], here: "kernel")
        #expect(lines.suffix(2) == ["100.64.0.1 n1.site n1 kernel", "100.64.0.2 n2.site n2"])
        #expect(!lines.contains { $0.hasPrefix("127.0.1.1") })
    }
}
