import Testing

@testable import RegistryClient
@testable import RegistryWire

@Suite struct ChallengeTests {
    @Test func bearer() {
        let header =
            #"Bearer realm="https://auth.docker.io/token",service="registry.docker.io",scope="repository:a/b:pull,push""#
        #expect(
            Challenge.parse(header) == [
                Challenge(
                    scheme: "bearer",
                    parameters: [
                        "realm": "https://auth.docker.io/token", "service": "registry.docker.io",
                        "scope": "repository:a/b:pull,push",
                    ])
            ])
    }

    @Test(arguments: [
        (#"Basic realm="x""#, ["basic": ["realm": "x"]]),
        (#"basic"#, ["basic": [:]]),
        (#"  ,, Basic   realm = "a \"b\" c" , charset=UTF-8"#, ["basic": ["realm": #"a "b" c"#, "charset": "UTF-8"]]),
        (#"Bearer realm=https://x/t,service=s"#, ["bearer": ["realm": "https://x/t", "service": "s"]]),
        (#"Bearer REALM="r", Basic realm="b""#, ["bearer": ["realm": "r"], "basic": ["realm": "b"]]),
        (#"Bearer realm="unclosed"#, ["bearer": ["realm": "unclosed"]]),
        (#"Bearer realm="a",realm="b""#, ["bearer": ["realm": "a"]]),
        ("", [:]),
        ("\"\"==,,\u{7F}", [:]),
    ])
    func shapes(_ header: String, _ wanted: [String: [String: String]]) {
        let found = Challenge.parse(header)
        #expect(Dictionary(uniqueKeysWithValues: found.map { ($0.scheme, $0.parameters) }) == wanted)
    }
}

@Suite struct RetryAfterTests {
    @Test func secondsAndDates() {
        #expect(RetryAfter.seconds("7") == 7)
        #expect(RetryAfter.seconds("0") == 0)
        #expect(RetryAfter.seconds("-1") == nil)
        #expect(RetryAfter.seconds("soon") == nil)
        #expect(RetryAfter.seconds("Sun, 06 Nov 1994 08:49:37 GMT") == 0)
        #expect(RetryAfter.seconds("Fri, 31 Dec 2999 23:59:59 GMT").map { $0 > 1e9 } == true)
    }
}
