import Diagnostics
import FoundationEssentials
import Glibc
import ImageStore
import LinuxSystem

/// What a site lets come from registries, and what must be signed: `/etc/trireme/policy.json`, then the files
/// of `TRIREME_POLICY`. Each of them has to agree, so that a user's own can only be stricter.
///
/// A policy is a guard against mistakes and bad mirrors. It does not bind a user who fetches an image with
/// another program and loads it.
package struct RegistryPolicy: Sendable {
    /// One file.
    struct Source: Sendable {
        var path: String
        var isOpenToOthers: Bool
        var rules: [Rule]

        /// The rule with the longest prefix, which says all that this file has to say; nil when none fits.
        func rule(_ name: String) -> Rule? {
            rules.filter { $0.covers(name) }.max { $0.prefix.utf8.count < $1.prefix.utf8.count }
        }
    }

    struct Rule: Sendable {
        /// `HOST[:PORT][/PATH]`, whole components.
        var prefix: String
        var isAllowed: Bool
        /// In the site's words, for whoever is refused.
        var reason: String?
        /// Public keys in PEM, of which one must have signed; nil when no signature is asked for.
        var keys: [SigningKey]?

        func covers(_ name: String) -> Bool { name == prefix || name.hasPrefix(prefix + "/") }
    }

    private var sources: [Source] = []

    package static let site = "/etc/trireme/policy.json"

    /// Whether there is any policy at all; without one nobody need read anything.
    package static var isAny: Bool {
        Files.exists(site) || (getenv("TRIREME_POLICY").map { $0[0] != 0 } ?? false)
    }

    /// Allows everything.
    init() {}

    /// - Parameters:
    ///   - optional: a file that need not be there.
    ///   - named: files that must.
    /// - Throws: `policy-invalid`; a policy that cannot be read allows nothing.
    package init(optional: String, named: [String]) throws(Diagnostic) {
        for path in (Files.exists(optional) ? [optional] : []) + named { sources.append(try Source(path)) }
    }

    /// - Parameter name: `HOST[:PORT]/REPOSITORY`.
    /// - Throws: `registry-blocked`.
    func admit(_ name: String) throws(RegistryFault) {
        for source in sources {
            let rule = source.rule(name)
            guard !(rule?.isAllowed ?? source.isOpenToOthers) else { continue }
            let allowed = source.rules.filter(\.isAllowed).map(\.prefix)
            throw RegistryFault(
                .registryBlocked,
                [
                    rule.map { $0.reason ?? "'\($0.prefix)' is blocked" } ?? "no rule allows it",
                    "policy \(source.path)",
                ],
                remedies: allowed.isEmpty ? [] : ["allowed: " + allowed.prefix(4).joined(separator: ", ")])
        }
    }

    /// The sets of keys of each of which one must have signed what is called `name`; with the file that says so.
    func demands(_ name: String) -> [(policy: String, keys: [SigningKey])] {
        sources.compactMap { source in source.rule(name)?.keys.map { (source.path, $0) } }
    }
}

extension RegistryPolicy.Source {
    private struct File: Decodable {
        struct Entry: Decodable {
            var prefix: String
            var allow: Bool?
            var reason: String?
            var require: String?
            var keys: [String]?

            init(from decoder: any Decoder) throws {
                let fields = try KnownFields(decoder, ["prefix", "allow", "reason", "require", "keys"])
                prefix = try fields.values.decode(String.self, forKey: "prefix")
                allow = try fields.values.decodeIfPresent(Bool.self, forKey: "allow")
                reason = try fields.values.decodeIfPresent(String.self, forKey: "reason")
                require = try fields.values.decodeIfPresent(String.self, forKey: "require")
                keys = try fields.values.decodeIfPresent([String].self, forKey: "keys")
            }
        }
        var version: Int
        var others: String?
        var registries: [Entry]

        init(from decoder: any Decoder) throws {
            let fields = try KnownFields(decoder, ["version", "default", "registries"])
            version = try fields.values.decode(Int.self, forKey: "version")
            others = try fields.values.decodeIfPresent(String.self, forKey: "default")
            registries = try fields.values.decode([Entry].self, forKey: "registries")
        }
    }

    init(_ path: String) throws(Diagnostic) {
        func invalid(_ reason: String) -> Diagnostic {
            Diagnostic(
                .policyInvalid, path, reasons: [reason, "nothing is pulled or pushed while it cannot be understood"])
        }
        let file: File
        do { file = try JSONDecoder().decode(File.self, from: Data(try Files.read(path))) } catch {
            throw invalid((error as? SyscallError)?.sentence ?? KnownFields.words(error))
        }
        guard file.version == 1 else { throw invalid("version \(file.version); 1 is read here") }
        guard ["allow", "block"].contains(file.others ?? "allow") else {
            throw invalid("\"default\" is \"allow\" or \"block\"")
        }
        self.path = path
        isOpenToOthers = file.others != "block"
        rules = []
        let directory = path.lastIndex(of: "/").map { String(path[..<$0]) } ?? "."
        for entry in file.registries {
            guard entry.require == nil || entry.require == "signed" else {
                throw invalid("'\(entry.prefix)': \"require\" is \"signed\" or left out")
            }
            guard !entry.prefix.isEmpty, !entry.prefix.hasSuffix("/"), !entry.prefix.contains("*") else {
                throw invalid("'\(entry.prefix)' is no prefix: HOST[:PORT][/PATH], no '*', no '/' at its end")
            }
            var rule = RegistryPolicy.Rule(
                prefix: entry.prefix, isAllowed: entry.allow ?? true, reason: entry.reason, keys: nil)
            if entry.require != nil {
                guard let names = entry.keys, !names.isEmpty else {
                    throw invalid("'\(entry.prefix)': \"require\": \"signed\" needs \"keys\"")
                }
                var keys: [SigningKey] = []
                for name in names {
                    let place = name.hasPrefix("/") ? name : directory + "/" + name
                    guard let text = try? Files.read(place, limit: 64 << 10),
                        let key = SigningKey(pem: String(decoding: text, as: UTF8.self))
                    else { throw invalid("\(place): not a public key in PEM (ECDSA P-256 or Ed25519)") }
                    keys.append(key)
                }
                rule.keys = keys
            }
            rules.append(rule)
        }
    }
}

/// The fields of one JSON object, of which none is unknown: a misspelt rule must not be passed over.
struct KnownFields {
    struct Name: CodingKey, ExpressibleByStringLiteral {
        var stringValue: String
        var intValue: Int? { nil }
        init(stringValue: String) { self.stringValue = stringValue }
        init?(intValue: Int) { nil }
        init(stringLiteral value: String) { stringValue = value }
    }
    let values: KeyedDecodingContainer<Name>

    init(_ decoder: any Decoder, _ known: Set<String>) throws {
        values = try decoder.container(keyedBy: Name.self)
        if let stranger = values.allKeys.first(where: { !known.contains($0.stringValue) }) {
            throw DecodingError.dataCorruptedError(
                forKey: stranger, in: values,
                debugDescription: "'\(RegistryFault.printable(stranger.stringValue))' is not a field of it")
        }
    }

    /// What was wrong, without the decoder's own way of saying it.
    static func words(_ error: any Error) -> String {
        switch error {
        case DecodingError.dataCorrupted(let context): context.debugDescription
        case DecodingError.keyNotFound(let key, _): "there is no '\(key.stringValue)'"
        case DecodingError.typeMismatch(_, let context), DecodingError.valueNotFound(_, let context):
            "'\(context.codingPath.last?.stringValue ?? "it")' is of another type"
        default: "it is not JSON"
        }
    }
}
