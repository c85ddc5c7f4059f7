/// Every code a diagnostic can carry, with its meaning and what to do.
///
/// `trireme explain` prints it; a test checks that no code is used without an entry.
package enum DiagnosticCatalogue {
    package struct Entry: Sendable {
        package let code: String
        package let meaning: String
        package let advice: String
        init(_ code: String, _ meaning: String, _ advice: String) {
            self.code = code
            self.meaning = meaning
            self.advice = advice
        }
    }

    package static func entry(for code: String) -> Entry? { entries.first { $0.code == code } }

    package static let entries: [Entry] = [
        general,
        jobs,
        images,
        files,
        hull,
        registry,
        policy,
        limits,
        devices,
        singleFile,
        life,
        record,
        clean,
        launchers,
        parallel,
        network,
    ].flatMap { $0 }

    private static let general: [Entry] = [
        Entry(
            "image-not-found", "no image of this name is in the store",
            "'trireme image ls' lists what is there; 'trireme pull NAME' or 'trireme image load -i FILE' brings one in."
        ),
        Entry(
            "image-name-differs", "the store has an image of the digest typed, under another name",
            "In NAME[:TAG]@sha256:DIGEST both must fit. Type the name that the message gives, or give the image yours: "
                + "trireme image tag."),
        Entry(
            "app-unknown", "the image has no app of the name given with --app",
            "Apps are directories below /scif/apps, which apptainer makes of %apprun and its like; the message lists them."
        ),
        Entry(
            "image-unsupported", "the image's configuration cannot be turned into a launch plan",
            "The message names what is too large or holds a NUL byte; build the image without it."),
        Entry(
            "archive-invalid", "an image archive is truncated, damaged, or holds an entry that must not be unpacked",
            "The message names the layer, the entry and the reason; nothing of it was stored. Write or copy the archive again."
        ),
        Entry(
            "archive-unsupported", "the archive is sound, but of a kind that is not read",
            "Write it as an OCI archive or with 'docker save', layers plain, gzip or zstd."),
        Entry(
            "archive-limit", "an archive asks for more than the limits that keep a bomb from filling the store",
            "The message names the limit."),
        Entry(
            "archive-unreadable", "the archive file cannot be opened",
            "Check the path and its permissions; '-i -' reads standard input."),
        Entry(
            "no-space", "the file system of the store is full, or will be",
            "Remove images with 'trireme image rm', or set TRIREME_STORE to a directory on a larger file system."),
        Entry(
            "store-unusable", "the image store cannot be written or read",
            "The message names the system call; TRIREME_STORE moves the store."),
        Entry(
            "store-damaged", "a file of the store is not what trireme wrote",
            "Remove the image with 'trireme image rm' and load it again."),
        Entry(
            "store-busy", "other commands kept removing what this one was loading",
            "Try again."),
        Entry(
            "unknown-verb", "the first word is not a command of trireme",
            "Run 'trireme --help' for the commands."),
        Entry(
            "unknown-code", "the word given to 'trireme explain' is not an error code",
            "Codes stand in brackets at the end of an error's first line."),
        Entry(
            "cluster-exists", "a cluster of this name is on record and runs",
            "Use it ('trireme cluster exec NAME'), delete it ('trireme cluster delete NAME') or choose another name."),
        Entry(
            "cluster-not-found", "no cluster of this name is on record",
            "'trireme cluster ls' lists them; 'trireme cluster create NAME' makes one."),
        Entry(
            "cluster-stopped", "the cluster does not run on this machine: its supervisor was ended, or runs elsewhere",
            "'trireme cluster create NAME' starts it anew; 'trireme cluster logs NAME' shows what it said last."),
        Entry(
            "cluster-busy", "another trireme is creating or deleting this cluster",
            "Wait for it, then look with 'trireme cluster ls'."),
        Entry(
            "cluster-state", "the cluster's record, directory or namespaces could not be used",
            "Check space and permissions of the directory named, or set XDG_STATE_HOME to another one."),
        Entry(
            "daemon-ended", "a daemon of the virtual cluster has ended, and the job would wait for it",
            "'trireme cluster logs NAME' has the daemon's last words; 'trireme cluster delete NAME' and 'create' make "
                + "the cluster anew. Jobs that fit on the other nodes still run."),
        Entry(
            "cluster-start-failed", "a step or a daemon failed while the cluster started; everything was undone",
            "The daemon's last lines say why; '--retain' keeps all logs for 'trireme cluster logs NAME'."),
        Entry(
            "cluster-invalid", "an option of 'trireme cluster create' has a value it cannot have",
            "'trireme cluster create --help' shows each option."),
        Entry(
            "node-not-found", "the cluster has no node or daemon of this name",
            "'trireme cluster status NAME' lists its nodes: ctl, n1, n2 and so on."),
        Entry(
            "node-image-unfit", "the image cannot serve as a cluster's node",
            "A node needs munge and Slurm, Grid Engine or HTCondor at Debian's paths; Recipes/node, "
                + "node-gridengine and node-htcondor make such images."),
        Entry(
            "no-user-namespaces", "the kernel refuses this user new user namespaces",
            "See sysctl user.max_user_namespaces, kernel.unprivileged_userns_clone and "
                + "kernel.apparmor_restrict_unprivileged_userns; inside a container they must be allowed from outside."),
        Entry(
            "plan-damaged", "the image's launch plan in the store cannot be read or is not a plan",
            "Load the image again: 'trireme load -i FILE'."),
        Entry(
            "layer-missing", "a layer that the image's plan names is not in the store",
            "Load the image again: 'trireme load -i FILE'."),
        Entry(
            "root-refused", "the kernel refused to mount the image or to make it the root directory",
            "'trireme doctor' tries each step; overlay mounts without root need Linux 5.11 or newer."),
        Entry(
            "bind-source-missing", "the SRC of a bind cannot be opened on this host",
            "SRC is a path of the host, DST one of the container: -B SRC:DST."),
        Entry(
            "bind-destination-missing", "the DST of a bind lies in a directory of the host and does not exist there",
            "Create it on the host first; trireme makes mount points in the image's root only."),
        Entry(
            "mount-refused", "a mount cannot be attached at this place of the container",
            "/ and what lies under /proc and /sys are protected; a file goes on a file, a directory on a directory."),
        Entry(
            "workdir-missing", "the start directory does not exist in the container",
            "Choose another with -w; in a directory of the host it must exist already."),
        Entry(
            "privileges-kept", "a privilege could not be given up before the start of the command",
            "This is a limit of the surrounding sandbox; 'trireme doctor' shows which."),
        Entry(
            "command-missing", "the image has neither ENTRYPOINT nor CMD and no command was given",
            "Give one: 'trireme run IMAGE CMD', or 'trireme shell IMAGE'."),
        Entry(
            "command-not-found", "the command is not in the container's PATH, or the path does not exist there",
            "PATH is the image's; 'trireme shell IMAGE' shows what is there."),
        Entry(
            "command-not-executable", "the file exists in the container, but the kernel cannot execute it",
            "It needs execute permission, a format the kernel knows, and its loader or interpreter in the image."),
        Entry(
            "wrong-architecture", "the program is for another kind of processor than this host's",
            "Load the image for this host's architecture."),
        Entry(
            "image-user-unknown", "'--user image' was given, and the image does not define the USER it names",
            "Leave the option out: the command then runs under your own uid and gid."),
        Entry(
            "agent-unreachable", "the job's agent on this node does not answer, so its container cannot be joined",
            "The job may be over: 'squeue' shows it. An agent belongs to one node and one user."),
        Entry(
            "installation-incomplete", "trireme-cli is not beside trireme",
            "Keep trireme, trireme-cli and trireme-agent in one directory: 'make install PREFIX=DIR'."),
        Entry(
            "usage", "an option's value was not understood",
            "'trireme help VERB' shows each option."),
        Entry(
            "program-directory", "trireme cannot tell where it is installed",
            "It reads /proc/self/exe; /proc must be mounted."),
    ]
}
