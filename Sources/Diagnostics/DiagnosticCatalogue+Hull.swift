extension DiagnosticCatalogue {
    /// What separates a container from its host.
    static let hull: [Entry] = [
        Entry(
            "isolation-unsupported", "an isolation option cannot be had here, or not in a parallel job",
            "The message names the option and the reason. Documentation/Reference/isolation.md says which namespaces "
                + "a job's containers share with their node."),
        Entry(
            "proc-refused",
            "the kernel does not let this process mount a /proc or another kernel file system of its own",
            "Inside a container whose /proc is partly covered (docker, podman) the kernel refuses a fresh one. Run the "
                + "outer container with --security-opt unmask=ALL (podman) or systempaths=unconfined (docker), or share "
                + "the pid namespace: --share pid."),
        Entry(
            "mask-refused", "a path of /proc or /sys could not be covered",
            "Nothing was started: it would have seen what it must not. 'trireme doctor' says what the kernel allows."),
        Entry(
            "seccomp-refused", "the kernel takes no filter of system calls",
            "It was built without CONFIG_SECCOMP_FILTER, or an outer filter forbids seccomp(2). '--seccomp off' runs "
                + "without the filter; Documentation/Reference/seccomp.md says what that gives up."),
        Entry(
            "subordinate-ids", "--fakeroot could not map the range of subordinate ids",
            "newuidmap and newgidmap must be installed with their privileges (package uidmap), and /etc/subuid and "
                + "/etc/subgid need a line for you. '--fakeroot-single' shows uid 0 without them."),
        Entry(
            "kernel-too-old", "the kernel lacks a system call that mounting without privileges needs",
            "Containers are made with open_tree, move_mount and mount_setattr, the last of which is of Linux 5.12, and "
                + "overlays in user namespaces are of 5.11. RHEL 8 (4.18) and SLES 15 before SP4 are too old for any "
                + "image. In an old docker or podman a filter answers as if they were missing: run the outer container "
                + "with --security-opt seccomp=unconfined."),
    ]
}
