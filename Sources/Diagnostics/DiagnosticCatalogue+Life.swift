extension DiagnosticCatalogue {
    /// A container's terminal and end.
    static let life: [Entry] = [
        Entry(
            "no-daemon", "an option of docker that needs a daemon",
            "A container of trireme is the process that was started, and nothing keeps it when that ends. Put it into "
                + "the background with nohup and &, into tmux, or submit it as a job."),
        Entry(
            "no-terminal", "-it was asked for, but standard input is no terminal",
            "Scripts and batch jobs have none. Standard input is always passed: leave out -t."),
        Entry(
            "terminal-refused", "the container could not be given a terminal of its own",
            "It is made in the container's own /dev/pts (--dev minimal). Without -t the command has the caller's "
                + "standard streams."),
        Entry(
            "timeout", "--timeout ended the container",
            "It got its stop signal, then --stop-timeout later SIGKILL; every process in it has ended. Exit status 124."
        ),
    ]
}
