import ArgumentParser

// The same verbs where docker's users look for them: at top level. Each is its `image` twin under
// another name, with that twin's options.

/// `trireme images`
package struct ImagesShortcut: ParsableCommand {
    package static let configuration = CommandConfiguration(
        commandName: "images", abstract: "List the images in the store ('image ls').")
    @OptionGroup var command: ImageList
    package init() {}
    package func run() throws { try command.run() }
}

/// `trireme rmi`
package struct RemoveImageShortcut: ParsableCommand {
    package static let configuration = CommandConfiguration(
        commandName: "rmi", abstract: "Remove images ('image rm').")
    @OptionGroup var command: ImageRemove
    package init() {}
    package func run() throws { try command.run() }
}
