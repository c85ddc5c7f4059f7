import Glibc

/// Whether a policy for registries may want an image signed. A glance at the text, without reading JSON: where it is
/// not sure, `trireme-cli` reads it (`SignedNames`). A rule's prefix begins with its registry's host, so a policy
/// that nowhere has the host or nowhere has `"signed"` says nothing of the image.
enum PolicyGlance {
    private static let sizeLimit = 64 << 10

    /// - Parameter image: its name in the store.
    static func concerns(_ image: CString, _ environment: UnsafePointer<UnsafeMutablePointer<CChar>?>) -> Bool {
        // Digits alone: chosen by content.
        if hasPrefix(image, "sha256:") { return false }
        let site = open(c("/etc/trireme/policy.json"), O_RDONLY | O_CLOEXEC)
        if site < 0, errno != ENOENT, errno != ENOTDIR { return true }
        if site >= 0, mayDemand(site, image) { return true }
        // A user's own policies are few: their names are not taken apart here.
        guard let list = ContainerEnvironment.find(c("TRIREME_POLICY"), 14, in: environment) else { return false }
        return list[15] != 0
    }

    private static func mayDemand(_ file: Int32, _ image: CString) -> Bool {
        defer { close(file) }
        let text = UnsafeMutablePointer<CChar>.allocate(capacity: sizeLimit + 1)
        var count = 0
        while count < sizeLimit {
            let n = read(file, text + count, sizeLimit - count)
            if n < 0, errno == EINTR { continue }
            guard n >= 0 else { return true }
            if n == 0 { break }
            count += n
        }
        text[count] = 0
        // Longer than is read, no text, or letters written as escapes.
        if count == sizeLimit || strlen(text) != count || strchr(text, 0x5C) != nil { return true }
        return strstr(text, c("\"signed\"")) != nil && strstr(text, host(of: image)) != nil
    }

    /// The first part of a name when it has a dot, a colon or is `localhost`; else Docker Hub's.
    private static func host(of image: CString) -> CString {
        guard let end = strchr(image, Int32(slash)) else { return c("docker.io") }
        var host = ByteBuffer(capacity: 64)
        host.append(image, count: UnsafePointer(end) - image)
        let name = host.cString
        let isHost = strchr(name, 0x2E) != nil || strchr(name, Int32(colon)) != nil || isEqual(name, "localhost")
        return isHost ? name : c("docker.io")
    }
}
