import Foundation
import TestSupport
import Testing

/// Where a job's nodes meet: a site's etcd of several members, with certificates, and what is published there.
@Suite(.serialized) struct JobStoreTests {
    let directory: TemporaryDirectory

    init() throws { directory = try TemporaryDirectory() }

    /// A shell script with `members COUNT`, which starts that many members of one etcd (as $pids, their addresses
    /// $list; `scheme` and `more` change how), and `trireme` in its PATH.
    private func script(_ text: String) throws -> ProgramRun {
        let programs = (try Programs.path("trireme") as NSString).deletingLastPathComponent
        let prelude = """
            export LC_ALL=C PATH=\(programs):$PATH
            scheme=http more=
            start() { # COUNT FIRST-PORT
                pids= list= all=
                for i in $(seq $1); do all="$all,m$i=http://127.0.0.1:$(($2 + 50 + i))"; done
                for i in $(seq $1); do
                    etcd --name m$i --data-dir $PWD/m$i --listen-client-urls $scheme://127.0.0.1:$(($2 + i)) \\
                        --advertise-client-urls $scheme://127.0.0.1:$(($2 + i)) $more --initial-cluster "${all#,}" \\
                        --listen-peer-urls http://127.0.0.1:$(($2 + 50 + i)) \\
                        --initial-advertise-peer-urls http://127.0.0.1:$(($2 + 50 + i)) >m$i.log 2>&1 &
                    pids="$pids $!" list="$list,$scheme://127.0.0.1:$(($2 + i))"
                done
                list=${list#,}
                for i in $(seq $1); do
                    for try in $(seq 300); do
                        grep -q 'ready to serve client requests' m$i.log && continue 2
                        for p in $pids; do kill -0 $p 2>/dev/null || return 1; done
                        sleep 0.1
                    done
                    return 1
                done
            }
            stop() { for p in "$@"; do kill -9 $p; wait $p; done 2>/dev/null; }
            members() {
                for try in 1 2 3 4 5; do
                    start $1 $((20000 + RANDOM % 100 * 100)) && return
                    stop $pids; rm -rf m[0-9]*
                done
                cat m*.log >&2; exit 99
            }
            trap 'stop $pids' EXIT

            """
        return try runProgram(
            ["bash", "-c", prelude + text], environment: ["XDG_STATE_HOME": directory.path],
            directory: directory.path, limitSeconds: 120)
    }

    @Test(.enabled(if: isInstalled("etcd"), "etcd is not installed")) func membersAreLost() throws {
        let run = try script(
            """
            members 3
            run() { trireme run -n 2 --launcher direct --kvs $list --join-timeout ${1:-60} mpi-hello:mpich sh -c "$2"; }
            run 60 'echo up; exec sleep 300' >out 2>&1 & job=$!
            for i in $(seq 300); do [ "$(grep -c up out)" = 2 ] && break; sleep 0.1; done
            set -- $pids
            stop $1; echo "one lost"
            run 60 'echo hello'
            stop $2; echo "quorum lost"
            sleep 1; kill -0 $job && echo "goes on"
            run 8 'echo never' 2>&1 | grep -oE 'does not answer|\\[join-timeout\\]|never'
            trireme job cancel $(trireme ps -q) >/dev/null; wait $job; echo "ended $?"
            grep -o 'was not told of the job.s end' out
            """)
        #expect(
            run.lines == [
                "one lost", "hello", "hello", "quorum lost", "goes on", "does not answer", "[join-timeout]",
                "ended 143",
                "was not told of the job's end",
            ], "\(run.outputText)\(run.errorText)")
    }

    /// Asked of etcd itself, right after the job's end.
    @Test(.enabled(if: isInstalled("etcd"), "etcd is not installed")) func keysGoWithTheJob() throws {
        let run = try script(
            """
            members 1
            count() {
                port=${list##*:}; data='{"key":"AA==","range_end":"AA==","count_only":true}'
                exec 3<>/dev/tcp/127.0.0.1/$port
                printf 'POST /v3/kv/range HTTP/1.0\\r\\nContent-Length: %d\\r\\n\\r\\n%s' ${#data} "$data" >&3
                grep -o '"count":"[0-9]*"' <&3 || echo none
            }
            trireme run -n 2 --launcher direct --kvs $list mpi-hello:mpich sh -c 'echo up; sleep 2' >out & job=$!
            for i in $(seq 300); do [ "$(grep -c up out)" = 2 ] && break; sleep 0.1; done
            count
            id=$(trireme ps -q); trireme job kvs watch $id FINISH >seen & watch=$!
            wait $job; echo "ended $?"; count
            wait $watch; grep -o '"value":"0"' seen
            """)
        #expect(run.lines.first?.hasPrefix("\"count\":\"") ?? false, "\(run.outputText)\(run.errorText)")
        #expect(run.lines.dropFirst() == ["ended 0", "none", "\"value\":\"0\""], "\(run.outputText)\(run.errorText)")
    }

    @Test(.enabled(if: isInstalled("etcd"), "etcd is not installed")) func aWrongCertificateIsSaidAtOnce() throws {
        let run = try script(
            """
            openssl req -x509 -newkey rsa:2048 -nodes -keyout key.pem -out cert.pem -days 2 -subj /CN=etcd \\
                -addext subjectAltName=IP:127.0.0.1 2>/dev/null
            scheme=https more="--cert-file cert.pem --key-file key.pem --client-cert-auth --trusted-ca-file cert.pem"
            members 1
            run() { timeout 60 trireme run -n 1 --launcher direct --join-timeout 300 --kvs $list "$@" mpi-hello:mpich echo hello 2>&1; }
            said() { grep -oE '\\(--kvs-[^)]*\\)|\\[store-unreachable\\]|^hello|cannot be read'; }
            run | said
            run --kvs-cacert cert.pem | said | sort -u
            run --kvs-cacert nowhere.pem | said
            run --kvs-cacert cert.pem --kvs-cert cert.pem --kvs-key key.pem | said
            """)
        let lines = run.lines
        #expect(lines.prefix(2) == ["(--kvs-cacert)", "[store-unreachable]"], "\(run.outputText)\(run.errorText)")
        #expect(lines.dropFirst(2).first?.hasPrefix("(--kvs-cert") ?? false, "\(run.outputText)\(run.errorText)")
        #expect(
            lines.dropFirst(3) == ["[store-unreachable]", "cannot be read", "[store-unreachable]", "hello"],
            "\(run.outputText)\(run.errorText)")
    }

    /// Each node's agent has a key of its own in each job.
    @Test func everyNodePublishesItsKey() throws {
        let run = try script(
            """
            for i in 1 2; do
                trireme run -n 1 --launcher direct mpi-hello:mpich sh -c 'echo up; exec sleep 300' >out$i 2>&1 &
                for t in $(seq 300); do grep -q up out$i && break; sleep 0.1; done
            done
            for id in $(trireme ps -q); do trireme job kvs ls $id | grep -oE 'PUBKEY +ed25519 [0-9a-f]{64}'; done | sort -u | wc -l
            trireme job cancel $(trireme ps -q) >/dev/null; wait
            """)
        #expect(run.lines == ["2"], "\(run.outputText)\(run.errorText)")
    }
}
