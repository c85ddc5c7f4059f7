import Diagnostics

/// What kind's users type (`kind create cluster --name X`, `kind get clusters`), answered with our verb for it.
enum KindVerbs {
    private static let verbs: Set<String> = ["create", "get", "delete", "load", "export"]
    private static let subjects: Set<String> = [
        "cluster", "clusters", "nodes", "kubeconfig", "docker-image", "image-archive", "logs",
    ]

    /// nil when it is none of kind's.
    static func answer(_ arguments: [String]) -> Diagnostic? {
        guard arguments.count > 1, verbs.contains(arguments[0]), subjects.contains(arguments[1]),
            let line = line(verb: arguments[0], subject: arguments[1], name: name(in: arguments))
        else { return nil }
        return Diagnostic(
            DiagnosticCode("unknown-verb"), "'\(arguments[0]) \(arguments[1])'", reasons: ["is kind's spelling"],
            remedies: [line])
    }

    private static func line(verb: String, subject: String, name: String?) -> String? {
        switch (verb, subject) {
        case ("create", "cluster"): "trireme cluster create \(name ?? "NAME")"
        case ("delete", "cluster"): "trireme cluster delete \(name ?? "NAME")"
        case ("delete", "clusters"): "trireme cluster delete NAME…, and all that there are: trireme cluster ls -q"
        case ("get", "cluster"), ("get", "clusters"): "trireme cluster ls"
        case ("get", "nodes"): "trireme cluster status \(name ?? "NAME")"
        case ("export", "logs"): "trireme cluster logs \(name ?? "NAME")"
        case ("load", "docker-image"), ("load", "image-archive"):
            "trireme image load -i FILE: the nodes see the store, nothing is loaded into a cluster"
        case ("get", "kubeconfig"), ("export", "kubeconfig"), ("create", "kubeconfig"):
            "trireme cluster exec \(name ?? "NAME"): a cluster is entered, it has no API server"
        default: nil
        }
    }

    /// Of `--name X`, `--name=X`, `-n X`, or a bare word.
    private static func name(in arguments: [String]) -> String? {
        var words = arguments.dropFirst(2)
        while let word = words.popFirst() {
            if word == "--name" || word == "-n" { return words.first }
            if word.hasPrefix("--name=") { return String(word.dropFirst(7)) }
            if !word.hasPrefix("-") { return word }
        }
        return nil
    }
}
