import LaunchPlan

/// Host libraries on their way into a container: one directory, put in front of the loader's search.
///
/// `LD_LIBRARY_PATH`, not `/etc/ld.so.conf.d`: the latter needs ldconfig in the image and a writable
/// root at every start. What was measured stands in Documentation/Reference/run-devices.md.
package struct LibraryInjection {
    /// Where they stand inside, on trireme's private tmpfs.
    package static let place = "/.trireme"
    package static let directory = "/.trireme/lib"

    private let host: HostLibraries
    private let image: ImageLibraries
    /// File name inside -> path in the host's root.
    package private(set) var files: [String: String] = [:]
    /// Libraries left out, and why.
    package private(set) var refused: [(name: String, reason: String)] = []

    package init(host: HostLibraries, image: ImageLibraries) {
        self.host = host
        self.image = image
    }

    /// Adds `library` by its soname and the name it was found by. False, with the reason in `refused`, when
    /// the image's C library is too old for it.
    @discardableResult
    package mutating func add(_ library: HostLibrary) -> Bool {
        if let reason = image.objection(to: library.facts) {
            if !refused.contains(where: { $0.name == library.name }) { refused.append((library.name, reason)) }
            return false
        }
        for name in [library.name, library.facts.soname].compactMap({ $0 }) where !name.contains("/") {
            if files[name] == nil { files[name] = library.path }
        }
        return true
    }

    /// Adds `library` under another name: the name the image's programs ask for.
    package mutating func add(_ library: HostLibrary, as name: String) {
        if add(library) { files[name] = library.path }
    }

    /// Gives a file that was added one more name.
    package mutating func alias(_ name: String, of path: String) {
        if files[name] == nil { files[name] = path }
    }

    /// Adds `library` with everything it needs that the image does not have, or has too old.
    /// A library of `replaced` is always the host's.
    package mutating func addWithNeeds(_ library: HostLibrary, replaced: (String) -> Bool = { _ in false }) {
        var pending = [library]
        var seen: Set<String> = [library.path]
        while let next = pending.popLast() {
            guard add(next) else { continue }
            for name in next.facts.needed where !Self.isPartOfCLibrary(name) && files[name] == nil {
                if !replaced(name), imageSuffices(name, for: next.facts) { continue }
                let beside = host.root.elf("\(next.directory)/\(name)") == nil ? nil : "\(next.directory)/\(name)"
                guard let found = host.library(name) ?? beside.flatMap(host.library) else { continue }
                if seen.insert(found.path).inserted { pending.append(found) } else { add(found) }
            }
        }
    }

    private func imageSuffices(_ name: String, for facts: ElfFacts) -> Bool {
        guard let own = image.facts(name) else { return false }
        return (facts.neededVersions[name] ?? []).isSubset(of: own.definedVersions)
    }

    /// What comes with the loader must be the loader's own.
    package static func isPartOfCLibrary(_ name: String) -> Bool {
        let parts = [
            "libc.so.", "libm.so.", "libpthread.so.", "libdl.so.", "librt.so.", "libresolv.so.", "libutil.so.",
            "libanl.so.", "libnsl.so.1", "libmvec.so.", "libthread_db.so.", "libBrokenLocale.so.", "ld-linux",
        ]
        return parts.contains { name.hasPrefix($0) }
    }

    /// Mounts what was added. Nothing when nothing was.
    package func apply(to plan: inout LaunchPlan) {
        guard !files.isEmpty else { return }
        if !plan.mounts.contains(where: { $0.isTemporary && $0.destination == Self.place }) {
            plan.mounts.append(.init(source: "", destination: Self.place, isTemporary: true))
        }
        for (name, path) in files.sorted(by: { $0.key < $1.key }) {
            let destination = "\(Self.directory)/\(name)"
            if plan.mounts.contains(where: { $0.destination == destination }) { continue }
            plan.mounts.append(.init(source: host.root.outside(path), destination: destination, isReadOnly: true))
        }
    }

    /// Puts the directory in front of the LD_LIBRARY_PATH that the application would find otherwise, when
    /// the plan holds host libraries. The last step: `-e LD_LIBRARY_PATH=…` must not undo an injection.
    package static func finish(_ plan: inout LaunchPlan) {
        guard plan.mounts.contains(where: { $0.destination.hasPrefix(directory + "/") }) else { return }
        let name = "LD_LIBRARY_PATH="
        func value(_ entries: [[UInt8]]) -> String? {
            entries.last { $0.starts(with: name.utf8) }.map {
                String(decoding: $0.dropFirst(name.utf8.count), as: UTF8.self)
            }
        }
        let own = value(plan.overrides) ?? value(plan.environment) ?? ""
        let parts = own.split(separator: ":").map(String.init).filter { $0 != directory }
        plan.overrides.removeAll { $0.starts(with: name.utf8) }
        plan.overrides.append(Array((name + ([directory] + parts).joined(separator: ":")).utf8))
    }
}
