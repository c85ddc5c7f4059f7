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
            "A node needs munge and Slurm at Debian's paths; Recipes/node makes such an image."),
        Entry(
            "no-user-namespaces", "the kernel refuses this user new user namespaces",
            "See sysctl user.max_user_namespaces, kernel.unprivileged_userns_clone and "
                + "kernel.apparmor_restrict_unprivileged_userns; inside a container they must be allowed from outside."),
        Entry(
            "program-directory", "trireme cannot tell where it is installed",
            "It reads /proc/self/exe; /proc must be mounted."),
    ]
}
