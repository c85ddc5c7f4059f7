import ArgumentParser

/// `trireme image`
package struct ImageCommand: ParsableCommand {
    package static let configuration = CommandConfiguration(commandName: "image", abstract: "")
    package init() {}
}
