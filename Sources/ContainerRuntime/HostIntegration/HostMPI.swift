import Diagnostics
import ImageFormats
import ImageStore

/// Puts the host's MPI in the place of the image's, where the binary interface permits.
///
/// The soname decides. MPICH and its kin promise one interface, `libmpi.so.12` (Debian calls MPICH's
/// `libmpich.so.12`); Open MPI has had `libmpi.so.40` since 3.0. Within a soname a newer library serves
/// older programs; the other way round works until a program uses something new.
package struct HostMPI {
    /// The numbers behind `.so.`: interface, then what was added to it, then patches (libtool's order).
    package struct Version: Equatable, Sendable, CustomStringConvertible {
        package var numbers: [Int]
        package init(fileName: String) {
            let tail = fileName.firstRange(of: ".so.").map { fileName[$0.upperBound...] } ?? ""
            numbers = tail.split(separator: ".").map { Int($0) ?? -1 }
        }
        package var major: Int? { numbers.first }
        package var minor: Int? { numbers.count > 1 ? numbers[1] : nil }
        package var description: String { numbers.map(String.init).joined(separator: ".") }
    }

    package enum Decision: Equatable, Sendable {
        case replace
        /// The host's is older within the same interface.
        case replaceByOlder(host: Version, image: Version)
        /// Another interface: programs of the image cannot be linked with it.
        case otherMajor(host: Version, image: Version)
        case otherFamily
    }

    package static func decide(
        imageFamily: MPIInstallation.Family, image: Version, hostFamily: MPIInstallation.Family, host: Version
    ) -> Decision {
        guard imageFamily == hostFamily else { return .otherFamily }
        guard host.major == image.major else { return .otherMajor(host: host, image: image) }
        if let ours = host.minor, let theirs = image.minor, ours < theirs {
            return .replaceByOlder(host: host, image: image)
        }
        return .replace
    }

    private let host: HostLibraries
    private let image: ImageLibraries

    package init(host: HostLibraries, image: ImageLibraries) {
        self.host = host
        self.image = image
    }

    /// An MPI of the host.
    package struct Found: Equatable, Sendable {
        package var family: MPIInstallation.Family
        package var library: HostLibrary
        package var version: Version { Version(fileName: library.fileName) }
    }

    private static let candidates = [
        "libmpi.so.40", "libmpi.so.12", "libmpich.so.12", "libmpi.so.20", "libmpi.so.1", "libmpi.so.80",
    ]

    /// Where MPIs are that no loader cache names, until a module is loaded.
    package static let libraryDirectories = [
        "/usr/lib64/openmpi/lib", "/usr/lib64/mpich/lib", "/usr/lib64/mpi/gcc/openmpi4/lib64", "/opt/cray/pe/lib64",
    ]

    /// The host's MPIs, the one of the caller's LD_LIBRARY_PATH before others of its name.
    package static func installations(_ host: HostLibraries) -> [Found] {
        var found: [Found] = []
        for name in candidates {
            guard let library = host.library(name), !found.contains(where: { $0.library.path == library.path }) else {
                continue
            }
            found.append(Found(family: family(of: library.facts), library: library))
        }
        return found
    }

    /// Open MPI's own library needs its run-time layers; `libmpi.so.12` was both families' name.
    package static func family(of facts: ElfFacts) -> MPIInstallation.Family {
        facts.needed.contains { $0.hasPrefix("libopen-pal.so") || $0.hasPrefix("libopen-rte.so") } ? .openMPI : .mpich
    }

    /// Adds the host's MPI for `installation` of the image called `name`.
    ///
    /// - Throws: `mpi-host`.
    package func add(_ installation: MPIInstallation, imageName: String, to plan: inout DevicePlan) throws(Diagnostic) {
        let file = image.tree.find(installation.library)?.path ?? installation.library
        let wanted = Version(fileName: String(file.split(separator: "/").last ?? ""))
        let own = Self.installations(host)
        let words = own.map { "\(Self.word($0.family)) \($0.library.path)" }.joined(separator: ", ")
        func refused(_ reason: String) -> Diagnostic {
            Diagnostic(
                DiagnosticCode("mpi-host"), imageName,
                reasons: ["the image has \(Self.word(installation.family)) /\(file)", reason],
                remedies: ["leave out '--mpi host' to use the image's own", "module load an MPI of the same family"])
        }
        guard !own.isEmpty else {
            throw refused("this host has no MPI in LD_LIBRARY_PATH, the loader's cache or the usual directories")
        }
        let ranked = own.map {
            ($0, Self.decide(imageFamily: installation.family, image: wanted, hostFamily: $0.family, host: $0.version))
        }
        guard
            let (chosen, decision) = ranked.first(where: { $0.1 == .replace })
                ?? ranked.first(where: { if case .replaceByOlder = $0.1 { true } else { false } })
        else {
            if let (other, _) = ranked.first(where: { if case .otherMajor = $0.1 { true } else { false } }) {
                throw refused(
                    "the host's \(other.library.path) has interface \(other.version.major ?? 0), the image's programs "
                        + "need \(wanted.major ?? 0)")
            }
            throw refused("the host has only \(words)")
        }
        if let reason = image.objection(to: chosen.library.facts) {
            throw refused("\(chosen.library.path) of the host cannot be loaded there: \(reason)")
        }
        if case .replaceByOlder(let ours, let theirs) = decision {
            plan.notes.append(
                "warning: the host's MPI (\(ours)) is older than the image's (\(theirs)); a program that uses something "
                    + "new fails with 'undefined symbol'")
        }
        add(chosen, installation, to: &plan)
        plan.notes.append("MPI of the host: \(chosen.library.path)")
    }

    package static func word(_ family: MPIInstallation.Family) -> String {
        family == .openMPI ? "Open MPI" : "MPICH's interface"
    }

    // MARK: Libraries

    /// Parts of an MPI and of what it speaks through: always the host's, never mixed with the image's.
    private static func isReplaced(_ name: String) -> Bool {
        let stems = [
            "libmpi", "libopen-", "libmca_common_", "libpmix.", "libprrte.", "libhwloc.", "libevent", "libuc",
            "libfabric.", "libibverbs.", "librdmacm.", "libpsm", "libcxi.", "libmunge.", "libpmi.", "libpmi2.",
        ]
        return stems.contains { name.hasPrefix($0) }
    }

    private func add(_ chosen: Found, _ installation: MPIInstallation, to plan: inout DevicePlan) {
        for soname in installation.sonames {
            guard let library = counterpart(of: soname, chosen) else {
                plan.notes.append("the host has no \(soname); the image's own is used with the host's MPI")
                continue
            }
            plan.libraries.addWithNeeds(library, replaced: Self.isReplaced)
            plan.libraries.add(library, as: soname)
        }
        for directory in pluginDirectories(chosen) {
            plan.show(directory, readOnly: true)
            for plugin in plugins(below: directory, depth: 2) {
                for name in plugin.facts.needed where Self.isReplaced(name) || image.facts(name) == nil {
                    guard !LibraryInjection.isPartOfCLibrary(name), let needed = host.library(name) else { continue }
                    plan.libraries.addWithNeeds(needed, replaced: Self.isReplaced)
                }
            }
        }
    }

    /// The host's library for a soname of the image: from the directory of the chosen MPI, by the other
    /// distributions' name where the families' names differ.
    private func counterpart(of soname: String, _ chosen: Found) -> HostLibrary? {
        let pairs = [
            ("libmpich.so.", "libmpi.so."), ("libmpichfort.so.", "libmpifort.so."),
            ("libmpichcxx.so.", "libmpicxx.so."),
        ]
        var names = [soname]
        if chosen.family == .mpich {
            for (debian, common) in pairs {
                if soname.hasPrefix(debian) { names.append(common + soname.dropFirst(debian.count)) }
                if soname.hasPrefix(common) { names.append(debian + soname.dropFirst(common.count)) }
            }
        }
        for name in names {
            let beside = "\(chosen.library.directory)/\(name)"
            if let found = host.library(beside).map({ HostLibrary(name: name, path: $0.path, facts: $0.facts) }) {
                if !name.hasPrefix("libmpi.so") || Self.family(of: found.facts) == chosen.family { return found }
            }
        }
        return names.lazy.compactMap(host.library).first {
            $0.directory == chosen.library.directory
        }
    }

    /// Directories of plug-ins and settings that the host's libraries look for at fixed places.
    private func pluginDirectories(_ chosen: Found) -> [String] {
        let libraries = chosen.library.directory
        var wanted = ["ucx", "libfabric", "libibverbs", "hwloc", "pmix", "pmix2"].map { "\(libraries)/\($0)" }
        wanted += ["/etc/libibverbs.d"]
        if chosen.family == .openMPI {
            let prefix = libraries.firstRange(of: "/lib").map { String(libraries[..<$0.lowerBound]) } ?? "/usr"
            wanted += [
                "\(libraries)/openmpi", "\(libraries)/openmpi3", "\(prefix)/share/openmpi", "\(prefix)/share/pmix",
            ]
            wanted += ["/etc/openmpi", "\(prefix)/etc"].filter { $0 != "/usr/etc" && $0 != "/etc" }
        }
        return wanted.filter(host.root.isDirectory)
    }

    private func plugins(below directory: String, depth: Int) -> [HostLibrary] {
        host.root.names(in: directory).flatMap { name -> [HostLibrary] in
            let path = "\(directory)/\(name)"
            if name.hasSuffix(".so") { return host.library(path).map { [$0] } ?? [] }
            return depth > 0 && host.root.isDirectory(path) ? plugins(below: path, depth: depth - 1) : []
        }
    }
}
