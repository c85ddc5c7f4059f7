extension DiagnosticCatalogue {
    /// What the container shows of its host, and where it may write.
    static let files: [Entry] = [
        Entry(
            "env-file-invalid", "a file given with --env-file cannot be read, or one of its lines is no variable",
            "The message names the file and the line. A line is NAME=VALUE, NAME for the caller's value, or a comment "
                + "that starts with #; quotes are part of the value, as in docker."),
        Entry(
            "overlay-busy", "a container that still runs is writing to the directory given with --overlay",
            "One writer at a time: wait for it, use another directory, or read what is there with --overlay DIR:ro."),
        Entry(
            "overlay-refused", "the kernel cannot keep a container's changes in the directory given with --overlay",
            "The directory must exist, be yours, and lie on a file system with user xattrs: ext4, xfs, btrfs, or tmpfs "
                + "since Linux 6.6; not NFS or Lustre."),
        Entry(
            "container-space", "a file system was full or read-only when the container was made",
            "The message names the place. df -h and df -i show which one is full; a tmpfs takes memory."),
        Entry(
            "image-path", "the file or directory named as an image is none",
            "An image is a name in the store, a root directory, an OCI layout, or a docker or OCI archive."),
    ]
}
