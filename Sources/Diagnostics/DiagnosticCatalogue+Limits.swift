extension DiagnosticCatalogue {
    /// What `run`, `exec` and `shell` say of limits.
    static let limits: [Entry] = [
        Entry(
            "limit-value", "a limit has a value it cannot have",
            "The message names the smallest and the largest. Sizes take k, m, g, t (powers of 1024): --memory 2g."),
        Entry(
            "limit-refused", "a limit was asked for that nothing on this machine can enforce",
            "Trireme never runs without a limit it was told. Ask the batch system (srun --mem, -c), have a control group "
                + "delegated (systemd: Delegate=yes), or take --limits best-effort, which turns this into a warning."),
        Entry(
            "memory-limit", "the kernel killed a process that went over the container's memory limit",
            "Give it more with --memory, or use less: fewer ranks per node, smaller pieces of the problem."),
    ]
}
