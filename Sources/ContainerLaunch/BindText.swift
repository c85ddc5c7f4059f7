import Glibc
import LaunchPlan
import LinuxSystem

/// The one grammar of binds: `SRC[:DST[:OPTIONS]]`, several of them between commas.
///
/// OPTIONS are words between commas. A comma starts a further bind where `/`, `./` or `../`
/// follows it, so that names with a comma need no quoting as a rule; `\:`, `\,` and `\\` quote.
/// It reads what `-B` and `-v` were given, what `TRIREME_BIND` or apptainer's variables hold (`SiteBinds`), and binds
/// that a plan carries.
struct BindText {
    private let text: CString
    private let directory: CString?
    /// Where the text stood, for the failure.
    private let source: StaticString
    private var at = 0
    private var isAtEnd = false

    /// - Parameter directory: what a relative SRC is relative to.
    init(_ text: CString, in directory: CString?, from source: StaticString = "--bind") {
        self.text = text
        self.directory = directory
        self.source = source
    }

    /// The most binds that `text` can hold.
    static func bound(_ text: CString) -> Int {
        var count = 1
        var at = 0
        while text[at] != 0 {
            if text[at] == comma { count += 1 }
            at += 1
        }
        return count
    }

    /// The next bind; nil after the last.
    mutating func next() throws(LaunchFailure) -> MountRequest? {
        if isAtEnd { return nil }
        var fields: (CString?, CString?, CString?) = (nil, nil, nil)
        var field = ByteBuffer(capacity: strlen(text) + 2)
        var number = 0
        while true {
            let byte = text[at]
            if byte == backslash, isQuotable(text[at + 1]) {
                field.append(text[at + 1])
                at += 2
                continue
            }
            let ends = byte == 0 || (byte == comma && startsPath(text + at + 1))
            guard ends || byte == colon else {
                field.append(byte)
                at += 1
                continue
            }
            switch number {
            case 0: fields.0 = field.cString
            case 1: fields.1 = field.cString
            case 2: fields.2 = field.cString
            default: throw refused()
            }
            number += 1
            isAtEnd = byte == 0
            if !isAtEnd { at += 1 }
            if ends { break }
            field = ByteBuffer(capacity: strlen(text) + 2)
        }
        return try request(fields.0, fields.1, fields.2)
    }

    private func request(_ from: CString?, _ to: CString?, _ options: CString?) throws(LaunchFailure) -> MountRequest {
        guard let from, from[0] != 0, to.map({ $0[0] == slash }) ?? true else { throw refused() }
        let path = cleaned(from, in: directory)
        var request = MountRequest(source: path, destination: to.map { cleaned($0, in: nil) } ?? path)
        request.origin = .user
        if let options { try take(options, &request) }
        try refuseProtected(request)
        return request
    }

    /// What docker, podman and apptainer accept here; what has no meaning without root is refused by its name.
    private func take(_ options: CString, _ request: inout MountRequest) throws(LaunchFailure) {
        var start = 0
        while true {
            var end = start
            while options[end] != 0, options[end] != comma { end += 1 }
            let word = copied(UnsafeRawBufferPointer(start: options + start, count: end - start))
            if isEqual(word, "ro") || isEqual(word, "readonly") {
                request.isReadOnly = true
            } else if isEqual(word, "rw") {
                request.isReadOnly = false
            } else if isEqual(word, "noexec") {
                request.isNotExecutable = true
            } else if isEqual(word, "bind") {
                request.isWithoutSubmounts = true
            } else if isEqual(word, "optional") {
                request.isOptional = true
            } else if !Self.isWithoutEffect(word) {
                throw LaunchFailure(.parseCommandLine, word, detail: c("bind option"), errno: EINVAL)
            }
            if options[end] == 0 { return }
            start = end + 1
        }
    }

    /// Words that ask for what holds anyway, or for labels and caches that are not here.
    private static func isWithoutEffect(_ word: CString) -> Bool {
        let words: [StaticString] = [
            "rbind", "exec", "nosuid", "nodev", "z", "Z", "private", "rprivate", "slave", "rslave", "cached",
            "delegated", "consistent", "nocopy",
        ]
        for known in words where isEqual(word, known) { return true }
        return false
    }

    private func refused() -> LaunchFailure {
        LaunchFailure(.parseCommandLine, text, detail: c(source), errno: EINVAL)
    }

    private func isQuotable(_ byte: CChar) -> Bool { byte == colon || byte == comma || byte == backslash }

    private func startsPath(_ text: CString) -> Bool {
        text[0] == slash || hasPrefix(text, "./") || hasPrefix(text, "../")
    }
}

/// Refuses what must not be covered by its name; what leads there by a link is refused when it is opened.
func refuseProtected(_ request: MountRequest) throws(LaunchFailure) {
    let destination = request.destination
    if isEqual(destination, "/") || isInside(destination, c("/proc")) || isInside(destination, c("/sys")) {
        throw LaunchFailure(.attachMount, destination, detail: request.source, errno: EBUSY)
    }
}

let comma = CChar(0x2C)
private let backslash = CChar(0x5C)
