import ArgumentParser

/// `trireme run`
package struct RunCommand: ParsableCommand {
    package static let configuration = CommandConfiguration(commandName: "run", abstract: "")
    package init() {}
}
