import Foundation
import TestSupport
import Testing

/// Terminals, on a pseudo terminal made by Python's pty module with a shell's place held by the script.
@Suite struct TerminalTests {
    let store: HandmadeStore

    init() throws { store = try HandmadeStore() }

    /// Runs `body` of a Python program that has `start(*options_and_command)`, which runs `trireme run` as the
    /// foreground job of a new terminal and returns (pid, master side), and `until(condition)`.
    private func python(_ body: String) throws -> ProgramRun {
        let program = """
            import fcntl, os, pty, signal, struct, sys, termios, time
            trireme = sys.argv[1]
            def start(*words):
                pid, master = pty.fork()
                if pid == 0:
                    os.execv(trireme, [trireme, "run", *words])
                return pid, master
            def side(master):  # TIOCGPTN
                number = struct.unpack("I", fcntl.ioctl(master, 0x80045430, bytes(4)))[0]
                return os.open(f"/dev/pts/{number}", os.O_RDWR | os.O_NOCTTY)
            def modes(master): return termios.tcgetattr(master)
            def is_raw(master): return not modes(master)[3] & (termios.ICANON | termios.ECHO)
            def until(condition):
                for _ in range(600):
                    if condition(): return True
                    time.sleep(0.05)
                return False
            def heard(master, text):
                seen = b""
                while text not in seen:
                    try: more = os.read(master, 4096)
                    except OSError: break
                    if not more: break
                    seen += more
                return text in seen
            """
        let file = store.directory.path + "/on-a-terminal.py"
        try Data((program + "\n" + body).utf8).write(to: URL(fileURLWithPath: file))
        let run = try runProgram(
            ["python3", file, try Programs.path("trireme")],
            environment: ["TRIREME_STORE": store.path, "HOME": store.home], directory: store.home, limitSeconds: 180)
        try #require(run.status == 0, "\(run.errorText)\(run.outputText)")
        return run
    }

    /// The slave side stays open in the script's own hands, as a shell's would: the modes outlive the job.
    @Test func aKilledLauncherGivesTheTerminalBack() throws {
        let run = try python(
            """
            pid, master = start("--profile", "isolated", "-it", "prepared", "probe", "linger")
            slave = side(master)
            before = modes(slave)
            print("raw", until(lambda: is_raw(slave)))
            print("ready", heard(master, b"ready"))
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            print("restored", until(lambda: modes(slave) == before or not is_raw(slave)))
            print("cooked", bool(modes(slave)[3] & termios.ICANON and modes(slave)[3] & termios.ECHO
                and modes(slave)[1] & termios.OPOST and modes(slave)[0] & termios.ICRNL))
            """)
        #expect(run.lines == ["raw True", "ready True", "restored True", "cooked True"])
    }

    /// Who set other modes meanwhile keeps them, and an ordinary end leaves nobody behind.
    @Test func onlyOurOwnModesAreTakenBack() throws {
        let run = try python(
            """
            pid, master = start("--profile", "isolated", "-it", "prepared", "probe", "linger")
            slave = side(master)
            print("raw", until(lambda: is_raw(slave)))
            print("ready", heard(master, b"ready"))
            other = modes(slave)
            other[3] |= termios.ECHONL
            termios.tcsetattr(slave, termios.TCSANOW, other)
            guardians = [int(w) for w in open(f"/proc/{pid}/task/{pid}/children").read().split()]
            print("children", len(guardians))
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            def gone(p):
                try: return open(f"/proc/{p}/stat").read().rsplit(")", 1)[1].split()[0] == "Z"
                except OSError: return True
            print("gone", until(lambda: all(gone(p) for p in guardians)))
            print("kept", modes(slave) == other)
            """)
        #expect(run.lines == ["raw True", "ready True", "children 2", "gone True", "kept True"])
    }

    @Test func anOrdinaryEndRestoresAndLeavesNobody() throws {
        let run = try python(
            """
            pid, master = start("--profile", "isolated", "-it", "prepared", "probe", "signals", "1")
            slave = side(master)
            print("raw", until(lambda: is_raw(slave)))
            print("ready", heard(master, b"ready"))
            guardians = [int(w) for w in open(f"/proc/{pid}/task/{pid}/children").read().split()]
            os.write(master, b"\\x03")
            print("interrupt", heard(master, b"2"))
            os.kill(pid, signal.SIGTERM)
            print("status", os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
            print("cooked", bool(modes(slave)[3] & termios.ICANON and modes(slave)[3] & termios.ECHO))
            print("alive", [p for p in guardians if os.path.exists(f"/proc/{p}")])
            """)
        #expect(
            run.lines == ["raw True", "ready True", "interrupt True", "status 0", "cooked True", "alive []"])
    }
}
