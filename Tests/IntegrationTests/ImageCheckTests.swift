import Foundation
import TestSupport
import Testing

/// `trireme image check` against hosts made of files (`TRIREME_HOST_ROOT`).
@Suite struct ImageCheckTests {
    /// An image with a program that says what it needs, and a host that says what it is.
    private func check(
        kernel: (Int, Int, Int), level: Int, environment: String? = nil, release: String, flags: String,
        driver: String? = nil
    ) throws -> ProgramRun {
        let fixture = try ImageFixture()
        let bits = (0..<level).reduce(0) { $0 | 1 << $1 }
        try fixture.shell(
            """
            mkdir -p r/usr/bin; cat > elf.py <<'E'
            import struct, sys
            def note(kind, content, align):
                text = struct.pack("<III", 4, len(content), kind) + b"GNU\\0" + content
                return text + b"\\0" * (-len(text) % align)
            notes = [(note(1, struct.pack("<IIII", 0, \(kernel.0), \(kernel.1), \(kernel.2)), 4), 4),
                     (note(5, struct.pack("<IIII", 0xC0008002, 4, \(bits), 0), 8), 8)]
            at, heads, body = 64 + 56 * len(notes), b"", b""
            for text, align in notes:
                heads += struct.pack("<IIQQQQQQ", 4, 4, at + len(body), 0, 0, len(text), len(text), align); body += text
            machine = 183 if "\(TestMachine.name)" == "aarch64" else 62
            head = b"\\x7fELF\\2\\1\\1" + bytes(9) + struct.pack("<HHIQQQIHHHHHH", 2, machine, 1, 0, 64, 0, 0, 64, 56, len(notes), 0, 0, 0)
            open("r/usr/bin/tool", "wb").write(head + heads + body)
            E
            python3 elf.py; chmod 755 r/usr/bin/tool; tar -C r -cf r.tar .
            mkdir -p host/proc/sys/kernel host/proc/driver/nvidia; echo '\(release)' > host/proc/sys/kernel/osrelease
            printf 'processor\\t: 0\\nflags\\t\\t: fpu \(flags)\\n' > host/proc/cpuinfo
            """)
        if let driver {
            try fixture.shell(
                "echo 'NVRM version: NVIDIA UNIX x86_64 Kernel Module  \(driver)  Tue' > host/proc/driver/nvidia/version"
            )
        }
        let changes = environment.map { ["--change", "ENV \($0)"] } ?? []
        let program = try Programs.path("trireme-cli")
        let variables = ["TRIREME_STORE": fixture.store, "TRIREME_HOST_ROOT": fixture.path + "/host"]
        let made = try runProgram(
            [program, "image", "import", "-q"] + changes + [fixture.path + "/r.tar", "x:1"], environment: variables)
        #expect(made.status == 0, "\(made.errorText)")
        return try runProgram(
            [program, "image", "check", "--format", "{{.Level}} {{.Rule}} {{.Message}}", "x:1"], environment: variables)
    }

    private let v2 = "cx16 lahf_lm popcnt pni sse4_1 sse4_2 ssse3"
    private let v3 = "cx16 lahf_lm popcnt pni sse4_1 sse4_2 ssse3 avx avx2 bmi1 bmi2 f16c fma abm movbe xsave"

    @Test func fits() throws {
        let run = try check(kernel: (3, 2, 0), level: 3, release: "6.1.0-13-amd64", flags: v3)
        #expect(run.status == 0, "\(run.outputText)")
        #expect(run.outputText.contains("info kernel Linux 3.2.0 is enough, this host has 6.1.0-13-amd64"))
        #expect(!TestMachine.isX86 || run.outputText.contains("info processor x86-64-v3 is enough"))
    }

    @Test func kernelTooOld() throws {
        let run = try check(kernel: (5, 15, 0), level: 1, release: "5.4.17-generic", flags: v3)
        #expect(run.status == 1)
        #expect(
            run.outputText.contains(
                "error kernel Linux 5.15.0 is needed by /usr/bin/tool, this host has 5.4.17-generic"))
    }

    @Test(.enabled(if: TestMachine.isX86, "the levels are x86-64's"))
    func processorTooOld() throws {
        let run = try check(kernel: (3, 2, 0), level: 4, release: "6.1.0", flags: v2)
        #expect(run.status == 1)
        #expect(
            run.outputText.contains(
                "x86-64-v4 is needed by /usr/bin/tool, this host has x86-64-v2 (it lacks avx, avx2"))
    }

    @Test func driverMissingTooOldAndFine() throws {
        func run(_ environment: String, _ driver: String?) throws -> ProgramRun {
            try check(
                kernel: (3, 2, 0), level: 1, environment: environment, release: "6.1.0", flags: v2, driver: driver)
        }
        let missing = try run("CUDA_VERSION=12.4.1", nil)
        #expect(missing.status == 0)
        #expect(missing.outputText.contains("warning driver made for CUDA 12.4"))
        let old = try run("NVIDIA_REQUIRE_CUDA='cuda>=12.2 brand=tesla,driver>=470'", "470.57.02")
        #expect(old.status == 1)
        #expect(old.outputText.contains("error driver CUDA 12.2 needs driver 525.60.13, this host has 470.57.02"))
        let fine = try run("CUDA_VERSION=12.4.1", "550.54.14")
        #expect(fine.status == 0 && fine.outputText.contains("info driver CUDA 12.4 runs with driver 550.54.14"))
    }
}

/// The processor the tests run on.
private enum TestMachine {
    #if arch(x86_64)
        static let name = "x86_64"
    #else
        static let name = "aarch64"
    #endif
    static var isX86: Bool { name == "x86_64" }
}
