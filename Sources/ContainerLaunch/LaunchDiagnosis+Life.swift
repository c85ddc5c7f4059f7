import Glibc

extension LaunchDiagnosis {
    /// Says that `--timeout` ended the container.
    static func sayTimedOut(_ image: CString, milliseconds: UInt32) {
        var text = ByteBuffer(capacity: 256)
        text.append("trireme: ")
        text.append(image[0] == 0 ? c("container") : image)
        text.append(": ended after ")
        text.append(decimal: UInt64(milliseconds / 1000))
        let rest = milliseconds % 1000
        if rest != 0 {
            text.append(".")
            if rest < 100 { text.append("0") }
            if rest < 10 { text.append("0") }
            text.append(decimal: UInt64(rest))
        }
        text.append(" s by --timeout [timeout]\n")
        _ = write(2, text.bytes, text.count)
    }
}
