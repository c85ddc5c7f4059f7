extension DiagnosticCatalogue {
    /// What policies, synchronisation and files from elsewhere say.
    static let policy: [Entry] = [
        Entry(
            "registry-blocked", "a policy does not let images come from there, or go there",
            "The message has the reason and the policy's file, /etc/trireme/policy.json or one of TRIREME_POLICY. "
                + "Use a registry that it allows."),
        Entry(
            "policy-invalid", "a policy for registries cannot be understood, so nothing is pulled or pushed",
            "The message names the file and the field; Documentation/Reference/policy.md has the format."),
        Entry(
            "file-unverified", "nothing says what a file behind an address must be",
            "Pin it (https://…#sha256=DIGEST), or name the key that signed it (--key)."),
        Entry(
            "spread-failed", "'image spread' or a job could not bring the image to all nodes of the allocation",
            "The message names the nodes. They reach each other at the port given with --port; once more is quick, "
                + "because nodes that have the image are done at once. With a store that all nodes share nothing is brought."
        ),
        Entry(
            "sync-invalid", "the file given to 'image sync' is not a list of images",
            "Documentation/Reference/policy.md has the format."),
    ]
}
