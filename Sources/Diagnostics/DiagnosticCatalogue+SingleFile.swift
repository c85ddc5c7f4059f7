extension DiagnosticCatalogue {
    /// What single-file images can meet.
    static let singleFile: [Entry] = [
        Entry(
            "image-file-unusable", "a single-file image cannot be opened, served or unpacked on this node",
            "The message names the step and its cause. 'trireme doctor' says whether /dev/fuse can be used; without it "
                + "the image is unpacked below TRIREME_TMPDIR, which must then have room for it. Launches of an image on "
                + "a node share one server; who answers in its place from a container is not followed: end the "
                + "process that the message names, and look at what else that container did."),
        Entry(
            "conversion-refused", "an image cannot be converted as asked",
            "The message says what stands in the way. A target that exists is never overwritten: remove it first, or "
                + "choose another name."),
    ]
}
