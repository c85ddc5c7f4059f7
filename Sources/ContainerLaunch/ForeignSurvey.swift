import Glibc
import LaunchPlan

/// The caller's variables that docker, apptainer and Singularity read: found in one walk over the environment, which
/// is memory only. What becomes of each is in `ForeignVariables.table`.
package struct ForeignSurvey {
    /// Asked for by a variable that is honoured.
    package private(set) var options = LaunchPlan.Options(rawValue: 0)
    /// The others, each with what does it here, in one line; nil where there are none.
    private var unheard: ByteBuffer?

    /// - Parameter verb: whose variables are looked for.
    package init(_ host: UnsafePointer<UnsafeMutablePointer<CChar>?>, for verb: ForeignVariables.Answer = .launch) {
        var index = 0
        while let entry = host[index] {
            index += 1
            switch UInt8(bitPattern: entry[0]) {
            case 0x41, 0x44, 0x53: add(CString(entry), verb)  // A, D, S
            default: continue
            }
        }
    }

    private mutating func add(_ entry: CString, _ verb: ForeignVariables.Answer) {
        let isDockers = hasPrefix(entry, "DOCKER_")
        let length = isDockers ? 7 : hasPrefix(entry, "APPTAINER_") ? 10 : hasPrefix(entry, "SINGULARITY_") ? 12 : 0
        guard length > 0 else { return }
        for row in ForeignVariables.table where (row.tool == .docker) == isDockers {
            let end = length + row.name.utf8CodeUnitCount
            guard isVariable(entry + length, c(row.name), end - length) else { continue }
            let value = entry + end + 1
            if value[0] == 0 || row.isFlag && isFalse(value) || row.option == .elsewhere && isHere(value) { return }
            if row.answer == .honoured {
                if isEqual(c(row.name), "CLEANENV") { options.insert(.cleanEnvironment) }
                if isEqual(c(row.name), "WRITABLE_TMPFS") { options.insert(.writable) }
            } else if row.answer == verb {
                name(entry, count: end, row.ours)
            }
            return
        }
    }

    private mutating func name(_ entry: CString, count: Int, _ ours: StaticString) {
        var text = unheard ?? ByteBuffer(capacity: 256)
        if unheard == nil { text.append("variables of other tools that do nothing here: ") } else { text.append(", ") }
        text.append(entry, count: count)
        text.append(" (")
        text.append(ours)
        text.append(")")
        unheard = text
    }

    /// What Go's strconv.ParseBool, by which apptainer reads its flags, takes for false.
    private func isFalse(_ value: CString) -> Bool {
        isEqual(value, "0") || isEqual(value, "f") || isEqual(value, "F") || isEqual(value, "false")
            || isEqual(value, "False") || isEqual(value, "FALSE")
    }

    /// A daemon on this machine: a container starts here, too.
    private func isHere(_ value: CString) -> Bool {
        hasPrefix(value, "unix:") || hasPrefix(value, "fd:") || isEqual(value, "default") || isEqual(value, "rootless")
    }

    /// The line for people; nil where there is nothing to say.
    package var notice: CString? { unheard?.cString }

    /// Says it, on standard error. Of the ranks of a step the first does.
    func report(_ host: UnsafePointer<UnsafeMutablePointer<CChar>?>) {
        guard let notice, ForeignSurvey.isFirstRank(host) else { return }
        var text = ByteBuffer(capacity: strlen(notice) + 16)
        text.append("trireme: ")
        text.append(notice)
        text.append("\n")
        _ = write(2, text.bytes, text.count)
    }

    private static func isFirstRank(_ host: UnsafePointer<UnsafeMutablePointer<CChar>?>) -> Bool {
        let names: [StaticString] = ["OMPI_COMM_WORLD_RANK", "PMIX_RANK", "PMI_RANK", "SLURM_PROCID"]
        for name in names {
            let length = name.utf8CodeUnitCount
            guard let entry = ContainerEnvironment.find(c(name), length, in: host) else { continue }
            if !isEqual(entry + length + 1, "0") { return false }
        }
        return true
    }
}

/// Binds that come from the environment.
enum SiteBinds {
    /// `TRIREME_BIND`, even empty, else the first of apptainer's that holds something; with the variable's name.
    static func find(
        _ host: UnsafePointer<UnsafeMutablePointer<CChar>?>
    ) -> (variable: StaticString, text: CString)? {
        if let own = value("TRIREME_BIND", host) { return ("TRIREME_BIND", own) }
        if let text = theirs("APPTAINER_BIND", host) { return ("APPTAINER_BIND", text) }
        if let text = theirs("APPTAINER_BINDPATH", host) { return ("APPTAINER_BINDPATH", text) }
        if let text = theirs("SINGULARITY_BIND", host) { return ("SINGULARITY_BIND", text) }
        if let text = theirs("SINGULARITY_BINDPATH", host) { return ("SINGULARITY_BINDPATH", text) }
        return nil
    }

    private static func theirs(
        _ name: StaticString, _ host: UnsafePointer<UnsafeMutablePointer<CChar>?>
    ) -> CString? {
        value(name, host).flatMap { $0[0] == 0 ? nil : $0 }
    }

    private static func value(
        _ name: StaticString, _ host: UnsafePointer<UnsafeMutablePointer<CChar>?>
    ) -> CString? {
        let length = name.utf8CodeUnitCount
        return ContainerEnvironment.find(c(name), length, in: host).map { $0 + length + 1 }
    }
}
