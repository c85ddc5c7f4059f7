import ArgumentParser

/// `trireme cluster`
package struct ClusterCommand: ParsableCommand {
    package static let configuration = CommandConfiguration(commandName: "cluster", abstract: "")
    package init() {}
}
