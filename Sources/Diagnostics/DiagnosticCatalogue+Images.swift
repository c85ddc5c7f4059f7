extension DiagnosticCatalogue {
    /// What the verbs of `image` say beyond loading.
    static let images: [Entry] = [
        Entry(
            "image-ambiguous", "the digits given fit several images", "Give more of them; the message lists the images."
        ),
        Entry(
            "image-in-use", "a container on this machine runs from the image",
            "Wait for it, or force with -f: the container then sees its files vanish."),
        Entry(
            "image-damaged", "'image verify' found content that is not what its digest or its archive says",
            "'trireme image verify --repair' unpacks damaged layers anew; a damaged blob has to be loaded or pulled again."
        ),
        Entry(
            "image-unsigned", "no signature of the given key covers the image, or none of the keys that a policy names",
            "Check the key and where the signature is kept: a sig tag in the same layout, as cosign makes it. An image of "
                + "the store that a policy wants signed: 'trireme pull NAME' looks for its signature."),
        Entry(
            "image-lint", "'image lint' found something a released image should not have",
            "Each finding names the file and the remedy."),
        Entry(
            "archive-unwritable", "the archive cannot be written", "Check the path, its permissions and the free space."
        ),
        Entry(
            "store-read-only", "the image lies in a site's store, which this command does not change",
            "Only the first path of TRIREME_STORE is written to."),
    ]
}
