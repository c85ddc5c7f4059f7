extension DiagnosticCatalogue {
    /// What `run`, `exec` and `shell` say of their command line and of parallel jobs.
    static let jobs: [Entry] = [
        Entry(
            "no-image", "no image was named",
            "The image comes after the options: trireme run [OPTIONS] IMAGE [COMMAND]."),
        Entry(
            "no-command", "there is nothing to run: none was typed, and the image names none (or 'exec' was used)",
            "Type a command after IMAGE; 'trireme image inspect IMAGE' shows what the image would run."),
        Entry(
            "option-unknown", "an option is not one of this command's",
            "'trireme run --help' lists them. Options of the application come after IMAGE."),
        Entry(
            "option-value", "an option has a value it cannot have", "The message names the option and what it takes."),
        Entry(
            "no-allocation", "several nodes were asked for, and this process has none",
            "Start it inside a job of the batch system (sbatch, qsub, bsub …), or name a virtual cluster with --cluster. One node needs neither: "
                + "'trireme run -n 4 IMAGE' uses this machine."),
        Entry(
            "allocation-unreadable", "the scheduler's variables about this job do not make sense",
            "Compare SLURM_JOB_NODELIST and SLURM_TASKS_PER_NODE with 'scontrol show job $SLURM_JOB_ID'."),
        Entry(
            "hostfile-unreadable", "the host file cannot be read or has a line that is none",
            "A line is HOST, HOST:SLOTS or HOST slots=SLOTS; '#' begins a comment."),
        Entry(
            "too-few-nodes", "the allocation has fewer nodes than the job asks for",
            "Ask for more (the hint says how in this batch system), or use -N."),
        Entry(
            "too-few-slots", "the allocation has fewer places than the job has ranks",
            "Ask for more (the hint says how in this batch system), or use fewer ranks with -n."),
        Entry(
            "mpi-mismatch", "the image's MPI and the way of starting it do not speak the same protocol",
            "Each rank would start as a job of its own ('rank 0 of 1'). OpenMPI takes --mpi pmix, MPICH --mpi pmi2; "
                + "--model node uses the image's own mpirun and needs neither."),
        Entry(
            "port-unusable", "the TCP port the job's nodes report to cannot be opened",
            "Leave --port out for a free one, or choose another; 'ss -ltnp' shows who has it."),
        Entry(
            "agents-not-started", "the scheduler could not start trireme's agent on the job's nodes",
            "trireme must be installed at the same path on every node; the lines above are the scheduler's own."),
        Entry(
            "join-timeout", "not every node reported within --join-timeout",
            "The message lists who is missing. Check that the node can reach this one by TCP, and 'sinfo -N'."),
        Entry(
            "node-not-ready", "a node could not set up its container", "The cause is the node's own; it names the step."
        ),
        Entry(
            "node-lost", "a node's agent ended or was cut off while the job ran; the job was stopped",
            "'squeue' and 'sinfo -N' show whether the node or the job was taken away."),
        Entry(
            "installation", "a part of trireme is missing or cannot be started",
            "trireme, trireme-cli and trireme-agent lie side by side in one directory: install them again."),
    ]
}
