extension DiagnosticCatalogue {
    /// How ranks are started and where their output goes.
    static let launchers: [Entry] = [
        Entry(
            "output-lost", "what was written could not be put where it was to go",
            "The file of --output or --error, or what standard output goes to, cannot be opened or takes no more, as on "
                + "a full disk. A job is ended, since a result that was not kept is none; a reader that goes away, as "
                + "head(1) does, is no loss.")
    ]
}
