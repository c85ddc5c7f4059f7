import Foundation
import FuzzerDriver
import OCIModel

/// Any bytes as what registries, archives and users say: references, digests, platforms, manifests,
/// configurations. Refused, or understood so that what is said again is understood the same.
private func testOneInput(_ start: UnsafePointer<UInt8>?, _ count: Int) -> CInt {
    let bytes = Array(UnsafeBufferPointer(start: start, count: count))
    let text = String(decoding: bytes, as: UTF8.self)
    if let reference = ImageReference(text) {
        guard ImageReference(reference.description) == reference else {
            fatalError("a reference is another when it is read again: \(reference)")
        }
    }
    if let digest = Digest(text) {
        guard Digest(digest.description) == digest else { fatalError("a digest is another when it is read again") }
    }
    _ = Platform(text)
    _ = ImageReference(fileName: text)
    let data = Data(bytes)
    let decoder = JSONDecoder()
    if let manifest = try? decoder.decode(ImageManifest.self, from: data) {
        guard let again = try? JSONEncoder().encode(manifest),
            (try? decoder.decode(ImageManifest.self, from: again)) != nil
        else { fatalError("a manifest that was read cannot be written") }
    }
    _ = try? decoder.decode(ImageIndex.self, from: data)
    _ = try? decoder.decode(ImageConfiguration.self, from: data)
    _ = try? decoder.decode([DockerArchiveEntry].self, from: data)
    return 0
}

/// SwiftPM links this as the program's main.
@_cdecl("ImageTextFuzzer_main")
public func run(
    _ count: CInt, _ arguments: UnsafeMutablePointer<UnsafeMutablePointer<CChar>?>?
) -> CInt {
    var count = count
    var arguments = arguments
    return LLVMFuzzerRunDriver(&count, &arguments) { testOneInput($0, $1) }
}
