extension DiagnosticCatalogue {
    /// How ranks are started and where their output goes.
    static let launchers: [Entry] = [
        Entry(
            "output-lost", "what a rank wrote could not be put into its file",
            "The file of --output or --error cannot be opened or takes no more, as on a full disk. The job is ended, "
                + "since a result that was not kept is none.")
    ]
}
