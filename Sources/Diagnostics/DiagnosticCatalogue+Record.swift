extension DiagnosticCatalogue {
    /// What `trireme job` says, and a job about its record.
    static let record: [Entry] = [
        Entry(
            "record-unwritable", "the job's record could not be written whole",
            "The job itself is not touched. Look for a full disk or a read-only home; XDG_STATE_HOME moves the records."
        ),
        Entry(
            "record-unreadable", "a job's record exists but cannot be read",
            "Records lie in $XDG_STATE_HOME/trireme/jobs, by default ~/.local/state/trireme/jobs; they are the user's own."
        ),
        Entry(
            "job-unknown", "no job, or more than one, fits that id",
            "'trireme job ls --all' lists what is on record in this state directory; XDG_STATE_HOME says which."),
        Entry(
            "job-not-running", "the job does not run any more, or its leader does not answer",
            "'trireme job show ID' tells how it ended. Cut off from the leader's node, ask from another one."),
        Entry(
            "store-unreachable", "the store named by --kvs does not answer, or not as etcd does",
            "Try 'etcdctl --endpoints=… endpoint health'; certificates go with --kvs-cacert, --kvs-cert and --kvs-key."),
        Entry(
            "job-refused", "the job's leader cannot do that", "The reason is the leader's own."),
    ]
}
