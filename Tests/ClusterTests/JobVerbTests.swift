import Foundation
import TestSupport
import Testing

/// `trireme job …` on jobs of this machine: what is on record, and words to a job that runs.
@Suite struct JobVerbTests {
    let directory: TemporaryDirectory

    init() throws { directory = try TemporaryDirectory() }

    /// A shell script with trireme in its PATH and a state directory of its own; `begin COMMAND` starts a
    /// job of two ranks behind it and waits until both have written a line: its id is $id, its process $job.
    private func script(_ text: String) throws -> ProgramRun {
        let programs = (try Programs.path("trireme") as NSString).deletingLastPathComponent
        let prelude = """
            export LC_ALL=C PATH=\(programs):$PATH
            begin() {
                trireme run -n 2 --launcher direct $options mpi-hello:mpich sh -c "$1" >out 2>&1 &
                job=$!
                for i in $(seq 300); do
                    id=$(trireme job ls -q)
                    [ -n "$id" ] && [ "$(trireme job logs $id | wc -l)" -ge 2 ] && return
                    kill -0 $job 2>/dev/null || break
                    sleep 0.1
                done
                cat out >&2
                exit 99
            }

            """
        return try runProgram(
            ["bash", "-c", prelude + text], environment: ["XDG_STATE_HOME": directory.path, "options": ""],
            directory: directory.path, limitSeconds: 180)
    }

    @Test func aRunningJobIsSeenStoppedContinuedAndCancelled() throws {
        let run = try script(
            """
            states() { for p in $(pgrep -xf "sleep 31415$$"); do awk '{ printf $3 }' /proc/$p/stat; done; echo; }
            # The leader answers when it has told the nodes, not when they have done it.
            become() { for i in $(seq 100); do [ "$(states)" = "$1" ] && break; sleep 0.1; done; states; }
            begin "echo hello \\$RANK; exec sleep 31415$$"
            trireme job logs -l $id | sort
            trireme ps --ranks | awk 'NR > 1 { print $2, $4 }'
            trireme job kvs get $id FINISH
            trireme job suspend $id >/dev/null; become TT
            trireme job resume $id >/dev/null; become SS
            trireme job cancel $id >/dev/null; wait $job; echo "ended $?"
            trireme job wait $id; echo "waited $?"
            trireme job ls -a | awk 'NR > 1 { print $2, $3 }'
            states
            """)
        #expect(
            run.lines == [
                "0: hello 0", "1: hello 1", "0 running", "1 running", "FALSE", "TT", "SS", "ended 143", "waited 143",
                "ended 143",
            ], "\(run.outputText)\(run.errorText)")
    }

    @Test func aRecordOutlivesTheJobAndATornLine() throws {
        let run = try script(
            """
            # Both ranks end by themselves, whichever is first.
            options=--keep-going
            begin 'echo line $RANK; i=0; while [ $i -lt 20000 ]; do i=$((i+1)); done; echo >&2 end; exit $((RANK * 7))'
            wait $job; echo "ended $?"
            printf '{"event":"rank.exi' >>trireme/jobs/$id/events.jsonl
            trireme job logs -l $id 2>&1 | grep -c .
            trireme job show $id | grep -E '^state|^[01] ' | tr -s ' '
            trireme job show $id --format json | grep -c '"exit_code" : 7'
            trireme job stats $id --per-rank | awk 'NR > 1 { print $1, ($4 > 0), ($5 != "0B") }'
            trireme job events $id --format jsonl | grep -o '"event":"job.ended"'
            trireme job cancel $id 2>&1 >/dev/null | grep -o '\\[job-.*\\]'
            trireme job show nonsense; echo $?
            stat -c %a trireme/jobs/$id
            """)
        #expect(
            run.lines == [
                "ended 7", "4", "state ended, exit code 7", "0 \(host) ended 0", "1 \(host) ended 7", "2", "0 1 1",
                "1 1 1",
                "\"event\":\"job.ended\"", "[job-not-running]", "125", "700",
            ], "\(run.outputText)\(run.errorText)")
        #expect(run.errorText.contains("[job-unknown]"))
    }

    /// Runs do not overwrite each other's files where no batch system numbers them.
    @Test func everyJobHasANumberOfItsOwn() throws {
        let run = try script(
            """
            for i in 1 2; do trireme run -n 2 --launcher direct -o out.%j.%r mpi-hello:mpich sh -c 'echo $TRIREME_JOB_ID'; done
            ls out.* | wc -l
            for i in out.*; do [ "$i" = "out.$(cat $i).0" ] || [ "$i" = "out.$(cat $i).1" ] || echo "$i $(cat $i)"; done
            trireme job ls -a | awk 'NR > 1 { print $1 }' | while read id; do trireme job show $id | grep -c ' empty '; done
            """)
        #expect(run.lines == ["4", "1", "1"], "\(run.outputText)\(run.errorText)")
    }

    private var host: String { ProcessInfo.processInfo.hostName.split(separator: ".").first.map(String.init) ?? "" }

    @Test(.enabled(if: isInstalled("etcd"), "etcd is not installed")) func aSitesEtcdHoldsTheKeys() throws {
        let run = try script(
            """
            start() { # PORT
                etcd --name one --data-dir $PWD/etcd --listen-client-urls http://127.0.0.1:$1 --advertise-client-urls http://127.0.0.1:$1 \\
                    --listen-peer-urls http://127.0.0.1:$(($1 + 1)) --initial-advertise-peer-urls http://127.0.0.1:$(($1 + 1)) \\
                    --initial-cluster one=http://127.0.0.1:$(($1 + 1)) >etcd.log 2>&1 &
                etcd=$!
                for i in $(seq 200); do
                    grep -q 'ready to serve client requests' etcd.log && return 0
                    kill -0 $etcd 2>/dev/null || return 1
                    sleep 0.1
                done
                return 1
            }
            trap 'kill -9 $etcd 2>/dev/null' EXIT
            for try in 1 2 3 4 5; do port=$((20000 + RANDOM % 10000 * 2)); start $port && break; rm -rf etcd; done
            options="--kvs http://127.0.0.1:$port" begin 'echo hello; exec sleep 300'
            key=$(printf "/$id/FINISH" | base64)
            # What etcd itself says over its gateway, not what trireme says of it.
            body=$(exec 3<>/dev/tcp/127.0.0.1/$port; data="{\\"key\\":\\"$key\\"}"
                printf 'POST /v3/kv/range HTTP/1.0\\r\\nContent-Length: %d\\r\\n\\r\\n%s' ${#data} "$data" >&3; cat <&3)
            grep -q "\\"value\\":\\"$(printf FALSE | base64)\\"" <<<"$body" && echo held
            trireme job kvs ls $id | awk 'NR > 1 { print $2 }' | sort | tr '\\n' ' ' | sed 's/sha256[^ ]*/DIGEST/'; echo
            kill -9 $etcd; wait $etcd 2>/dev/null
            trireme job cancel $id >/dev/null; wait $job; echo "ended $?"
            trireme run -n 2 --launcher direct --join-timeout 3 --kvs http://127.0.0.1:$port mpi-hello:mpich true 2>&1 | grep -o '\\[join-timeout\\]'
            """)
        #expect(
            run.lines == ["held", "127.0.0.1 FALSE True ed25519 DIGEST ", "ended 143", "[join-timeout]"],
            "\(run.outputText)\(run.errorText)")
    }
}
