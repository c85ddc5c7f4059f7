import Foundation
import NodeAgent
import TestSupport
import Testing

/// `ssh` in a job's containers, without a job: what its words mean, and which node is meant.
@Suite struct ShellTests {
    private func parsed(_ line: String, _ program: ShellArguments.Program = .ssh) throws -> ShellArguments {
        try ShellArguments(program, line.split(separator: " ").map { Array($0.utf8) })
    }

    private func text(_ bytes: [UInt8]?) -> String? { bytes.map { String(decoding: $0, as: UTF8.self) } }

    /// Options, then host, user and command that must come out.
    static let lines: [(String, host: String, user: String?, command: String)] = [
        ("n2 hostname", "n2", nil, "hostname"), ("n2", "n2", nil, ""),
        ("-x -n -q -T n2 uname -a", "n2", nil, "uname -a"), ("-xnqT n2 ls -l /", "n2", nil, "ls -l /"),
        ("-l alice n2 id", "n2", "alice", "id"), ("-lalice n2 id", "n2", "alice", "id"),
        ("alice@n2 id", "n2", "alice", "id"), ("n2 -l alice id", "n2", "alice", "id"),
        ("-p 2222 -i /k -F none -o BatchMode=yes n2 true", "n2", nil, "true"),
        ("-oStrictHostKeyChecking=no -vvC n2 -- -x", "n2", nil, "-x"),
        ("-o User=bob -o HostName=10.0.0.2 alias true", "10.0.0.2", "bob", "true"),
        ("ssh://alice@n2:2222 true", "n2", "alice", "true"), ("-4 -- n2 true", "n2", nil, "true"),
    ]

    @Test(arguments: lines) func wordsMeanWhatTheyMeanToOpenSSH(
        _ line: String, _ host: String, _ user: String?, _ command: String
    ) throws {
        let found = try parsed(line)
        #expect(text(found.host) == host && text(found.user) == user && text(found.command) == command)
    }

    @Test func settingsOfTheStreams() throws {
        #expect(try parsed("n2 cat").takesInput && !parsed("-n n2 cat").takesInput)
        #expect(try !parsed("-o stdinnull=yes n2 cat").takesInput && parsed("-o StdinNull=no n2 cat").takesInput)
        #expect(try parsed("-f n2 cat").goesToBackground && !parsed("-f n2 cat").takesInput)
        #expect(try parsed("n2 cat").terminal == nil && parsed("-t n2 top").terminal == .whenOursIs)
        #expect(
            try parsed("-tt n2 top").terminal == .always && parsed("-T n2").terminal == ShellArguments.TerminalWish.none
        )
        #expect(try parsed("-o RequestTTY=force n2 top").terminal == .always)
        #expect(
            try parsed("-q n2 a").isQuiet && parsed("-o LogLevel=QUIET n2 a").isQuiet && parsed("-V").asksForVersion)
        #expect(try parsed("-X n2 a").warnings.count == 1)
    }

    @Test(arguments: [
        "-L 80:a:80 n2", "-R 1:b:2 n2", "-D 1080 n2", "-W a:1 n2", "-J gate n2 id", "-N n2", "-s n2 sftp", "-G n2",
        "-o ProxyCommand=nc n2 id", "-o LocalForward=1 n2", "-Z n2", "-l", "", "-x", "-O check n2",
    ])
    func whatAJobDoesNotHaveIsRefused(_ line: String) throws {
        #expect(throws: ShellArguments.Refusal.self) { try parsed(line) }
    }

    @Test func rshHasItsOwnOptions() throws {
        let found = try parsed("-n -l alice n2 ls", .rsh)
        #expect(text(found.host) == "n2" && text(found.command) == "ls" && !found.takesInput)
        #expect(throws: ShellArguments.Refusal.self) { try parsed("-o a=b n2 ls", .rsh) }
        #expect(ShellProgram.named(Array("/x/rsh".utf8)) == .rsh && ShellProgram.named(Array("ssh".utf8)) == .ssh)
        #expect(ShellProgram.named(Array("/.trireme/agent".utf8)) == nil && ShellProgram.named([]) == nil)
    }

    /// The words are joined by blanks and read by the shell there, once, as sshd has it.
    @Test(arguments: ["echo 'a  b' \"$HOME\" $((1+2))", "printf '%s|' \"it's\" 'x y'; pwd", "exit 3"])
    func commandsAreReadOnceByTheShell(_ command: String) throws {
        let line = String(decoding: ShellProgram.line(Array(command.utf8), shell: "/bin/sh"), as: UTF8.self)
        let ours = try runProgram(["sh", "-c", line], environment: ["HOME": "/usr"])
        let plain = try runProgram(["sh", "-c", "cd /usr; " + command], environment: ["HOME": "/usr"])
        #expect(ours.outputText == plain.outputText && ours.status == plain.status)
        #expect(ours.status == 3 || !ours.outputText.isEmpty)
    }

    @Test func aLoginShellReadsItsInput() throws {
        let line = String(decoding: ShellProgram.line([], shell: "/bin/sh"), as: UTF8.self)
        #expect(try runProgram(["sh", "-c", line], input: Data("echo $((40 + 2))\n".utf8)).outputText == "42\n")
    }

    @Test func namesOfANode() {
        let table = Array(
            """
            127.0.0.1 localhost
            127.0.1.1 n2.site.example n2   # Debian's way
            10.0.0.2 node2 compute2
            10.1.0.2 n2-ib
            10.0.0.3 n3
            """.utf8)
        let own = ShellNames.own(name: "n2", addresses: ["10.0.0.2", "10.1.0.2", "127.0.0.1"], table: table)
        #expect(own == ["n2", "10.0.0.2", "10.1.0.2", "n2.site.example", "node2", "compute2", "n2-ib"])
        #expect(ShellNames.others(of: "compute2", table: table) == ["10.0.0.2", "node2", "compute2"])
        #expect(ShellNames.others(of: "localhost", table: table).isEmpty)
        #expect(ShellNames.isSame("N2", "n2.site.example") && !ShellNames.isSame("n2.a.org", "n2.b.org"))
        #expect(!ShellNames.isSame("10", "10.0.0.2") && !ShellNames.isSame("n2", "n22"))
        #expect(ShellNames.isLocal("127.0.0.9") && ShellNames.isLocal("localhost") && !ShellNames.isLocal("n2"))
    }

    @Test func accountsAreReadFromTheImage() {
        let table = Array("root:x:0:0:root:/root:/bin/bash\n\nbroken:x\nalice:x:1000:100::/home/alice:\n".utf8)
        #expect(ShellAccount(uid: 1000, passwd: table)?.name == "alice")
        #expect(ShellAccount(uid: 0, passwd: table)?.shell == "/bin/bash")
        #expect(ShellAccount(uid: 7, passwd: table) == nil && ShellAccount(uid: 7, passwd: []) == nil)
    }

    @Test func ourDirectoryComesFirstOnce() {
        func path(_ block: [String]) -> [String] {
            ShellPlace.environment(block.map { Array($0.utf8) }).map { String(decoding: $0, as: UTF8.self) }
        }
        #expect(path(["A=1", "PATH=/a:/b"]) == ["A=1", "PATH=/.trireme/bin:/a:/b"])
        #expect(path(["PATH=/.trireme/bin:/a"]) == ["PATH=/.trireme/bin:/a"])
        #expect(path([]) == ["PATH=/.trireme/bin:/usr/local/bin:/usr/bin:/bin"])
    }
}
