extension DiagnosticCatalogue {
    /// `trireme clean`.
    static let clean: [Entry] = [
        Entry(
            "clean-refused", "something cannot be removed now",
            "'trireme clean --all' removes the image store, and a running container reads its image from there: end "
                + "the container first. What belongs to other users is never touched."),
        Entry(
            "not-confirmed", "a question was not answered with yes",
            "On a terminal 'trireme clean --all' and 'trireme image prune' ask before they remove anything; --yes answers "
                + "beforehand. Without a terminal nothing is asked."),
    ]
}
