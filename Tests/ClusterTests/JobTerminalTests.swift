import Foundation
import TestSupport
import Testing

/// `-it` in a job: our terminal is rank 0's, on a pseudo terminal made by Python's pty module.
@Suite struct JobTerminalTests {
    let directory: TemporaryDirectory

    init() throws { directory = try TemporaryDirectory() }

    /// What both programs begin with: `until` reads from the terminal's other side, `master`.
    private static let reading = #"""
        import fcntl, os, pty, re, signal, struct, subprocess, sys, termios, time
        seen = b""
        def until(*texts):
            global seen
            while not all(text in seen for text in texts):
                seen += os.read(master, 4096)
            before, seen = seen, b""
            return before

        """#

    @Test(arguments: [("direct", "mpich"), ("mpirun", "openmpi"), ("mpirun", "mpich")])
    func rankZeroHasTheTerminal(_ launcher: String, _ kind: String) throws {
        let program = #"""
            def size(side, rows, columns):
                fcntl.ioctl(side, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
            trireme, launcher, image = sys.argv[1:]
            body = """
            if [ $TRIREME_RANK != 0 ]; then [ -t 0 ] || echo no terminal; exec sleep 300; fi
            trap 'echo "<interrupted>"' INT
            stty size; echo "<ready>"
            until read line; do :; done
            echo "<line $line>"; stty size; cat >/dev/null; echo "<end>"; exit 3
            """
            pid, master = pty.fork()
            if pid == 0:
                size(0, 40, 100)
                os.execv(trireme, [trireme, "run", "--rm", "local", "-n", "2", "--launcher", launcher, "-it", image, "sh", "-c", body])
            number = struct.unpack("I", fcntl.ioctl(master, 0x80045430, bytes(4)))[0]  # TIOCGPTN
            slave = os.open(f"/dev/pts/{number}", os.O_RDWR | os.O_NOCTTY)
            before = termios.tcgetattr(slave)
            said = until(b"<ready>", b"no terminal")
            print("size", b"40 100" in said)
            os.write(master, b"\x03")
            until(b"<interrupted>")
            size(master, 50, 120)
            os.write(master, b"hello\n")
            said += until(b"<line hello>")
            os.write(master, b"\x04")
            said += until(b"<end>")
            print("resized", b"50 120" in said)
            print("status", os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
            print("others", b"no terminal\r\n" in said)
            print("restored", termios.tcgetattr(slave) == before)
            """#
        let file = directory.path + "/on-a-terminal.py"
        try Data((Self.reading + program).utf8).write(to: URL(fileURLWithPath: file))
        let run = try runProgram(
            ["timeout", "150", "python3", file, try Programs.path("trireme"), launcher, "mpi-hello:" + kind],
            environment: ["XDG_STATE_HOME": directory.path], limitSeconds: 180)
        #expect(
            run.lines == ["size True", "resized True", "status 3", "others True", "restored True"],
            "\(run.outputText)\(run.errorText)")
    }

    /// A script's output is the application's alone; who sits before a job is told what came of it.
    @Test func theEndIsSummedUpOnATerminalOnly() throws {
        let program = #"""
            trireme, image = sys.argv[1:]
            for body in ["exit 0", "exit $((TRIREME_RANK * 7))"]:
                words = [trireme, "run", "--rm", "local", "-n", "2", "--launcher", "direct", image, "sh", "-c", body]
                pid, master = pty.fork()
                if pid == 0: os.execv(trireme, words)
                said = b""
                while True:
                    try: more = os.read(master, 4096)
                    except OSError: break
                    if not more: break
                    said += more
                os.waitpid(pid, 0)
                print(re.sub(r"local\.\w+|[0-9.]+ s|memory \S+|rank [01] on [^),\s]+", "#", said.decode()).splitlines()[-1])
                for more in [[], ["--verbose"]]:
                    run = subprocess.run(words[:2] + more + words[2:], stderr=subprocess.PIPE, stdin=subprocess.DEVNULL)
                    print(len(run.stderr.splitlines()))
            """#
        let file = directory.path + "/summary.py"
        try Data((Self.reading + program).utf8).write(to: URL(fileURLWithPath: file))
        let run = try runProgram(
            ["timeout", "100", "python3", file, try Programs.path("trireme"), "mpi-hello:mpich"],
            environment: ["XDG_STATE_HOME": directory.path], limitSeconds: 120)
        #expect(
            run.lines == [
                "trireme: job # succeeded: 2 ranks on 1 node, #, peak # (#)", "0", "1",
                "trireme: job # failed with exit code 7: 2 ranks on 1 node, #, peak # (#), rank 1 exited 7 first", "1",
                "2",
            ], "\(run.outputText)\(run.errorText)")
    }

    /// Ctrl-Z stops the job's leader as any program; right after Ctrl-C it gives the shell back and the job goes on,
    /// also when the session it was started in ends.
    @Test func ctrlCThenCtrlZDetaches() throws {
        let program = #"""
            trireme, directory = sys.argv[1:]
            body = """
            await() { until [ -e "$1" ]; do sleep 0.1; done; }
            echo "<up $RANK>"; await "$0"; echo "<on $RANK>"
            [ $RANK = 0 ] || { : >"$0.other"; exec sleep 300; }
            await "$0.other"; exit 5
            """
            pid, master = pty.fork()
            if pid == 0:
                os.execv(trireme, [trireme, "run", "--rm", "local", "-n", "2", "--launcher", "direct", "-B", directory,
                    "mpi-hello:mpich", "sh", "-c", body, directory + "/go"])
            def stops():
                return os.WIFSTOPPED(os.waitpid(pid, os.WUNTRACED)[1])
            until(b"<up 0>", b"<up 1>")
            os.write(master, b"\x1a")
            print("stopped", stops())
            while True:
                os.killpg(pid, signal.SIGCONT)
                os.write(master, b"\x03")
                until(b"gives the shell back")
                os.write(master, b"\x1a")
                status = os.waitpid(pid, os.WUNTRACED)[1]
                if not os.WIFSTOPPED(status): break
                time.sleep(2.5)  # too slow: that was a Ctrl-Z of its own
            print("status", os.waitstatus_to_exitcode(status))
            job = re.search(rb"job attach (\S+?)'", until(b"job cancel")).group(1).decode()
            os.close(master)
            def run(*words):
                return subprocess.run([trireme, *words], capture_output=True, text=True)
            print("listed", job in run("ps", "-q").stdout)
            open(directory + "/go", "w").close()
            print("ended", run("job", "wait", job).returncode)
            print(*sorted(re.findall("<on .>", run("job", "logs", job).stdout)))
            """#
        let file = directory.path + "/detach.py"
        try Data((Self.reading + program).utf8).write(to: URL(fileURLWithPath: file))
        let run = try runProgram(
            ["timeout", "150", "python3", file, try Programs.path("trireme"), directory.path],
            environment: ["XDG_STATE_HOME": directory.path], limitSeconds: 180)
        #expect(
            run.lines == ["stopped True", "status 0", "listed True", "ended 5", "<on 0> <on 1>"],
            "\(run.outputText)\(run.errorText)")
    }

    @Test func withoutATerminalItIsRefused() throws {
        let run = try runProgram(
            [try Programs.path("trireme"), "run", "--rm", "local", "-n", "2", "-it", "mpi-hello:mpich", "true"],
            environment: ["XDG_STATE_HOME": directory.path])
        #expect(run.status == 125 && run.errorText.contains("[no-terminal]"), "\(run.errorText)")
    }
}
