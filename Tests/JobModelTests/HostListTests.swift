import JobModel
import TestSupport
import Testing

@Suite struct HostListTests {
    @Test(arguments: [
        ("n1", ["n1"]),
        ("n[1-3]", ["n1", "n2", "n3"]),
        ("n[1-2,7],login", ["n1", "n2", "n7", "login"]),
        ("n[08-11]", ["n08", "n09", "n10", "n11"]),
        ("rack[1-2]n[1-2]", ["rack1n1", "rack1n2", "rack2n1", "rack2n2"]),
        ("a[1-2]-ib.site,b", ["a1-ib.site", "a2-ib.site", "b"]),
        ("", []),
    ])
    func expands(_ text: String, _ names: [String]) throws {
        #expect(try HostList(parsing: text).names == names)
    }

    @Test(arguments: [
        "n[1-", "n]1[", "n[1-2]]", "n[[1]]", "n[]", "n[a-b]", "n[3-1]", "n[-1]", "n[1--2]", "n[99999999999]",
    ])
    func refuses(_ text: String) {
        #expect(throws: HostList.Failure.self) { try HostList(parsing: text) }
    }

    @Test func extremesAreRefusedOrBounded() {
        for a in ExtremeNumbers.all {
            for b in ExtremeNumbers.all {
                for text in ["n[\(a)-\(b)]", "n[0-\(a)]x[0-\(b)]", "n\(a),n\(b)", "n[\(a),\(b)]"] {
                    guard let list = try? HostList(parsing: text) else { continue }
                    #expect(list.names.count <= HostList.countLimit)
                    _ = HostList(list.names).description
                }
                let counts = CountsPerNode(parsing: "\(a)(x\(b)),\(b)")?.counts ?? []
                #expect(counts.count <= HostList.countLimit && counts.reduce(0, +) >= 0)
            }
        }
    }

    @Test func signsAreNoNumbers() {
        #expect(throws: HostList.Failure.malformedRange("+5")) { try HostList(parsing: "n[+5]") }
    }

    @Test func boundsWhatItExpands() {
        #expect(throws: HostList.Failure.tooLong) { try HostList(parsing: "n[0-999999999]") }
        #expect(throws: HostList.Failure.tooLong) { try HostList(parsing: "a[1-999]b[1-999]c[1-999]") }
    }

    @Test(arguments: [
        (["n1", "n2", "n3"], "n[1-3]"), (["n1", "n3", "n4", "x"], "n[1,3-4],x"),
        (["n08", "n09", "n10"], "n[08-09],n10"),
        (["login"], "login"), (["a", "b"], "a,b"), ([], ""),
    ])
    func folds(_ names: [String], _ text: String) throws {
        #expect(HostList(names).description == text)
        #expect(try HostList(parsing: text).names == names)
    }

    @Test func countsPerNode() {
        #expect(CountsPerNode(parsing: "2(x3),1")?.counts == [2, 2, 2, 1])
        #expect(CountsPerNode(parsing: "16")?.counts == [16])
        for bad in ["", "2(x", "2(x0)", "x", "2(3)", "-1", "+1", "1(x99999999)", "9999999999999999"] {
            #expect(CountsPerNode(parsing: bad) == nil, "\(bad)")
        }
    }
}
