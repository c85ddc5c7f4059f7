import Diagnostics
import LaunchPlan
import Quantities

/// `--mount KEY=VALUE,…` as docker and podman spell it: one line of CSV, so a value with a comma stands
/// in double quotes (docs.docker.com, "docker run", `--mount`).
package struct MountText {
    /// What is mounted; an image is resolved by the caller.
    package enum Meaning: Equatable {
        case mount(LaunchPlan.Mount)
        case image(name: String, destination: String)
    }

    private var type = "bind"
    private var source: String?
    private var destination: String?
    private var isReadOnly = false
    private var isNotExecutable = false
    private var isWithoutSubmounts = false
    private var temporaryOptions: [String] = []
    private let text: String

    /// - Throws: `option-value`, which names the part that is not understood.
    package static func parse(_ text: String, in directory: String?) throws(Diagnostic) -> Meaning {
        var mount = MountText(text)
        for field in try mount.fields() { try mount.take(field) }
        return try mount.meaning(in: directory)
    }

    /// Docker's `--tmpfs DST[:OPTIONS]` in the words of `--mount`.
    package static func temporary(_ text: String) -> String {
        let parts = text.split(separator: ":", maxSplits: 1).map(String.init)
        return "type=tmpfs,target=" + (parts.first ?? "") + (parts.count > 1 ? "," + parts[1] : "")
    }

    private init(_ text: String) { self.text = text }

    private func refused(_ reason: String) -> Diagnostic {
        Diagnostic(
            DiagnosticCode("option-value"), "--mount \(text)", reasons: [reason],
            remedies: [
                "--mount type=bind,source=/SRC,target=/DST,readonly", "--mount type=tmpfs,target=/DST,tmpfs-size=64m",
            ])
    }

    /// RFC 4180: a field in double quotes may hold commas, and a doubled quote stands for one.
    private func fields() throws(Diagnostic) -> [String] {
        var fields: [String] = []
        var field = ""
        var isQuoted = false
        var rest = Substring(text)
        while let character = rest.popFirst() {
            if isQuoted {
                if character != "\"" {
                    field.append(character)
                } else if rest.first == "\"" {
                    field.append(rest.removeFirst())
                } else {
                    isQuoted = false
                    guard rest.isEmpty || rest.first == "," else { throw refused("text follows a closing quote") }
                }
            } else if character == "\"", field.isEmpty {
                isQuoted = true
            } else if character == "," {
                fields.append(field)
                field = ""
            } else {
                field.append(character)
            }
        }
        if isQuoted { throw refused("a quote is not closed") }
        return fields + [field]
    }

    private mutating func take(_ field: String) throws(Diagnostic) {
        let parts = field.split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false).map(String.init)
        let key = parts[0].lowercased()
        func value() throws(Diagnostic) -> String {
            guard parts.count == 2, !parts[1].isEmpty else { throw refused("'\(key)' needs a value") }
            return parts[1]
        }
        func flag() throws(Diagnostic) -> Bool {
            switch parts.count == 2 ? parts[1].lowercased() : "true" {
            case "true", "1": return true
            case "false", "0": return false
            default: throw refused("'\(key)' is true or false")
            }
        }
        switch key {
        case "type": type = try value()
        case "source", "src": source = try value()
        case "destination", "dst", "target": destination = try value()
        case "readonly", "ro": isReadOnly = try flag()
        case "rw": isReadOnly = try !flag()
        case "noexec": isNotExecutable = try flag()
        case "bind-nonrecursive": isWithoutSubmounts = try flag()
        case "bind-recursive": try takeRecursion(value())
        case "bind-propagation": try takePropagation(value())
        case "tmpfs-size", "size": temporaryOptions.append("size=\(try bytes(value()))")
        case "tmpfs-mode", "mode":
            let mode = try value()
            guard mode.count <= 5, let number = UInt32(mode, radix: 8), number <= 0o1777 else {
                throw refused("'\(mode)' is not an octal mode up to 1777")
            }
            temporaryOptions.append("mode=0" + String(number, radix: 8))
        // What holds anyway, or labels and caches that are not here.
        case "nosuid", "nodev", "exec", "z", "relabel", "consistency", "notmpcopyup": break
        default: throw refused("'\(key)' is not a part of a mount")
        }
    }

    private mutating func takeRecursion(_ value: String) throws(Diagnostic) {
        switch value {
        case "enabled", "readonly", "writable": break
        case "disabled": isWithoutSubmounts = true
        default: throw refused("bind-recursive is enabled or disabled")
        }
    }

    private func takePropagation(_ value: String) throws(Diagnostic) {
        guard ["private", "rprivate", "slave", "rslave"].contains(value) else {
            throw refused("bind-propagation '\(value)' is not possible: no mount of a container reaches the host")
        }
    }

    private func bytes(_ value: String) throws(Diagnostic) -> UInt64 {
        guard let number = TypedSize.bytes(value), (1...1 << 60).contains(number) else {
            throw refused("'\(value)' is not a size: 64m, 1g")
        }
        return UInt64(number)
    }

    private func meaning(in directory: String?) throws(Diagnostic) -> Meaning {
        guard let destination, destination.hasPrefix("/") else { throw refused("no absolute target=") }
        switch type {
        case "bind":
            guard let source else { throw refused("no source=") }
            guard temporaryOptions.isEmpty else { throw refused("tmpfs-size and tmpfs-mode belong to type=tmpfs") }
            guard source.hasPrefix("/") || directory != nil else { throw refused("source= must be absolute here") }
            let path = source.hasPrefix("/") ? source : (directory ?? "") + "/" + source
            var mount = LaunchPlan.Mount(source: path, destination: destination, isReadOnly: isReadOnly)
            mount.isUserRequest = true
            mount.isNotExecutable = isNotExecutable
            mount.isWithoutSubmounts = isWithoutSubmounts
            return .mount(mount)
        case "tmpfs":
            guard source == nil else { throw refused("a tmpfs has no source") }
            // Anyone may write to it, as in docker.
            let options = temporaryOptions.contains { $0.hasPrefix("mode=") } ? [] : ["mode=01777"]
            var mount = LaunchPlan.Mount(
                source: (options + temporaryOptions).joined(separator: ","), destination: destination,
                isReadOnly: isReadOnly, isTemporary: true)
            mount.isUserRequest = true
            mount.isNotExecutable = isNotExecutable
            return .mount(mount)
        case "image":
            guard let source else { throw refused("no source=") }
            return .image(name: source, destination: destination)
        case "volume", "npipe", "cluster":
            throw refused("there are no volumes here: bind a directory with type=bind")
        default: throw refused("type is bind, tmpfs or image")
        }
    }
}
