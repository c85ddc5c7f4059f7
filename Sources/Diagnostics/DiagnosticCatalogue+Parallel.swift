extension DiagnosticCatalogue {
    /// Jobs of several commands, their terminals and their limits.
    static let parallel: [Entry] = [
        Entry(
            "parts-differ", "the parts of a job ('-n 2 IMAGE a : -n 2 IMAGE b') name different images",
            "All ranks of a node share one container, and a job's nodes have the same. Put both programs into one image."
        ),
        Entry(
            "exit-timeout", "a rank ended well and the others did not follow within --exit-timeout",
            "'trireme job show ID' says which ranks still ran. Often they wait for a message of the one that left."),
    ]
}
