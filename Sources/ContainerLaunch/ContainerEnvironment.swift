import Glibc
import LaunchPlan

/// What the application finds in its environment.
///
/// The host's variables pass, except those that steer the host's dynamic loader;
/// the image's win over them; PATH is the image's or the usual default; HOME is
/// the caller's; the host's `TRIREMEENV_NAME` sets NAME over the image; what the
/// plan and then `-e` say wins over all. A zone or a locale by a name that the
/// image does not have is passed by value (Documentation/Reference/run-files-environment.md).
struct ContainerEnvironment {
    /// NULL-terminated.
    private(set) var entries: CStringVector
    private(set) var count = 0
    private var capacity: Int
    /// The image's environment scripts are still to be read (`EnvironmentScripts`).
    private(set) var hasScripts = false

    /// - Parameters:
    ///   - host: the caller's environment.
    ///   - overrides: `K=V`, or `K` alone for the host's value; nil entries end it.
    ///   - options: the launch's; a clean environment starts from nothing but HOME.
    init(
        image: LaunchPlanReader, host: UnsafePointer<UnsafeMutablePointer<CChar>?>,
        overrides: UnsafePointer<UnsafeMutablePointer<CChar>?>, options: LaunchPlan.Options
    ) {
        let passesHost = !options.contains(.cleanEnvironment)
        var hostCount = 0
        while host[hostCount] != nil { hostCount += 1 }
        capacity = hostCount + 16
        entries = CStringVector.allocate(capacity: capacity)
        for index in 0..<hostCount {
            guard let entry = host[index] else { break }
            if passesHost ? !Self.isHeldBack(entry) : isVariable(entry, c("HOME"), 4) { append(entry) }
        }
        if passesHost, options.contains(.lacksTimeZones) || options.contains(.lacksLocales) {
            passByValue(options, host)
        }
        var hasPath = false
        image.forEach { record in
            guard record.tag == .environment else { return }
            let entry = record.cString
            if isVariable(entry, c("HOME"), 4) { return }
            if isVariable(entry, c("PATH"), 4) { hasPath = true }
            set(entry)
        }
        if !hasPath { set(c("PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")) }
        for index in 0..<hostCount {
            guard let entry = host[index], Self.isForced(entry) else { continue }
            set(CString(entry) + Self.forcedPrefix.utf8CodeUnitCount)
        }
        image.forEach { if $0.tag == .override { set($0.cString) } }
        var index = 0
        while let entry = overrides[index] {
            index += 1
            if strchr(entry, Int32(equals)) != nil {
                set(entry)
            } else if let value = Self.find(entry, strlen(entry), in: host) {
                set(value)
            }
        }
        if options.contains(.environmentScripts) { announceScripts(image, host, overrides) }
        entries[count] = nil
    }

    /// For the scripts: the names of what wins over them.
    private mutating func announceScripts(
        _ image: LaunchPlanReader, _ host: UnsafePointer<UnsafeMutablePointer<CChar>?>,
        _ overrides: UnsafePointer<UnsafeMutablePointer<CChar>?>
    ) {
        hasScripts = true
        var names = ByteBuffer()
        names.append(c(EnvironmentScripts.variable))
        names.append(CChar(bitPattern: 0x3D))
        func add(_ entry: CString) {
            names.append(entry, count: strchr(entry, Int32(equals)).map { CString($0) - entry } ?? strlen(entry))
            names.append(CChar(0x20))
        }
        var index = 0
        while let entry = host[index] {
            index += 1
            if Self.isForced(entry) { add(CString(entry) + Self.forcedPrefix.utf8CodeUnitCount) }
        }
        image.forEach { if $0.tag == .override { add($0.cString) } }
        index = 0
        while let entry = overrides[index] {
            index += 1
            add(entry)
        }
        set(names.cString)
    }

    /// Leaves out what names a directory of the host that the container does not show. Call it inside.
    mutating func forgetMissingDirectories() {
        for name: StaticString in [
            "TMPDIR", "TMP", "TEMP", "TEMPDIR", "XDG_RUNTIME_DIR", "XDG_CACHE_HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME",
            "XDG_STATE_HOME",
        ] {
            guard let value = value(name), value[0] == slash, access(value, F_OK) != 0 else { continue }
            // What the caller has made never was: programs make such a directory below the home.
            if hasPrefix(c(name), "XDG_"), !isEqual(c(name), "XDG_RUNTIME_DIR"), isInHome(value) { continue }
            remove(c(name), name.utf8CodeUnitCount)
        }
    }

    private func isInHome(_ path: CString) -> Bool {
        guard let home = value("HOME"), home[0] == slash else { return false }
        return isInside(path, home)
    }

    private mutating func remove(_ name: CString, _ length: Int) {
        var kept = 0
        var index = 0
        while index < count {
            if !isVariable(entries[index]!, name, length) {
                entries[kept] = entries[index]
                kept += 1
            }
            index += 1
        }
        count = kept
        entries[count] = nil
    }

    /// A finished environment, NULL-terminated.
    init(composed: CStringVector) {
        entries = composed
        while composed[count] != nil { count += 1 }
        capacity = count + 1
    }

    /// PATH is taken from the image; the loader's variables name host libraries
    /// that would break, or be injected into, the image's programs.
    private static func isHeldBack(_ entry: CString) -> Bool {
        switch UInt8(bitPattern: entry[0]) {
        case 0x50: isVariable(entry, c("PATH"), 4)
        case 0x54: isForced(entry)
        case 0x4C:
            isVariable(entry, c("LD_PRELOAD"), 10) || isVariable(entry, c("LD_LIBRARY_PATH"), 15)
                || isVariable(entry, c("LD_AUDIT"), 8)
        default: false
        }
    }

    static let forcedPrefix: StaticString = "TRIREMEENV_"

    /// `TRIREMEENV_NAME=VALUE`: a variable for the container alone.
    private static func isForced(_ entry: CString) -> Bool {
        guard hasPrefix(entry, forcedPrefix) else { return false }
        let first = entry[forcedPrefix.utf8CodeUnitCount]
        return first != equals && first != 0
    }

    /// TZ and the locale that the host means, in words that an image without zones and locales knows.
    private mutating func passByValue(
        _ options: LaunchPlan.Options, _ host: UnsafePointer<UnsafeMutablePointer<CChar>?>
    ) {
        if hostZone(options, host) != nil { set(c("TZ=:/etc/localtime")) }
        guard options.contains(.lacksLocales) else { return }
        var kept = 0
        var isDropped = false
        var isUTF8 = false
        for index in 0..<count {
            guard let entry = entries[index] else { continue }
            if let value = Self.localeValue(entry), !Self.isBuiltIn(value) {
                isDropped = true
                let spellings: [StaticString] = ["UTF-8", "utf8", "utf-8", "UTF8"]
                for spelling in spellings where strstr(value, c(spelling)) != nil { isUTF8 = true }
                continue
            }
            entries[kept] = entry
            kept += 1
        }
        count = kept
        if isDropped { set(isUTF8 ? c("LANG=C.UTF-8") : c("LANG=C")) }
    }

    /// The value of LANG or of a variable of locale(7).
    private static func localeValue(_ entry: CString) -> CString? {
        guard entry[0] == 0x4C else { return nil }
        if isVariable(entry, c("LANG"), 4) { return entry + 5 }
        return hasPrefix(entry, "LC_") ? strchr(entry, Int32(equals)).map { CString($0) + 1 } : nil
    }

    private static func isBuiltIn(_ value: CString) -> Bool {
        value[0] == 0 || isEqual(value, "C") || isEqual(value, "POSIX") || isEqual(value, "C.UTF-8")
            || isEqual(value, "C.utf8")
    }

    /// The whole entry of variable `name`.
    static func find(
        _ name: CString, _ length: Int, in block: UnsafePointer<UnsafeMutablePointer<CChar>?>
    ) -> CString? {
        var index = 0
        while let entry = block[index] {
            if isVariable(entry, name, length) { return CString(entry) }
            index += 1
        }
        return nil
    }

    /// The value of variable `name`, nil when unset.
    func value(_ name: StaticString) -> CString? {
        Self.find(c(name), name.utf8CodeUnitCount, in: entries).map { $0 + name.utf8CodeUnitCount + 1 }
    }

    /// Adds `K=V` where nobody has set K.
    mutating func setDefault(_ entry: CString) {
        let length = Self.nameLength(entry)
        for index in 0..<count where isVariable(entries[index]!, entry, length) { return }
        append(entry)
        entries[count] = nil
    }

    private static func nameLength(_ entry: CString) -> Int {
        strchr(entry, Int32(equals)).map { CString($0) - entry } ?? strlen(entry)
    }

    private mutating func set(_ entry: CString) {
        let length = Self.nameLength(entry)
        for index in 0..<count where isVariable(entries[index]!, entry, length) {
            entries[index] = UnsafeMutablePointer(mutating: entry)
            return
        }
        append(entry)
    }

    private mutating func append(_ entry: CString) {
        if count + 1 >= capacity {
            let larger = CStringVector.allocate(capacity: capacity * 2)
            memcpy(larger, entries, count * MemoryLayout<UnsafeMutablePointer<CChar>?>.stride)
            entries.deallocate()
            entries = larger
            capacity *= 2
        }
        entries[count] = UnsafeMutablePointer(mutating: entry)
        count += 1
    }
}

/// Whether `entry` is `name=…`.
@inline(__always)
func isVariable(_ entry: CString, _ name: CString, _ length: Int) -> Bool {
    strncmp(entry, name, length) == 0 && entry[length] == equals
}
