import Foundation
import FuzzerDriver
import OCIModel
import RegistryWire

/// A request as the first lines of the input say it, the rest its body: what a served registry, and who answers one,
/// reads of the other side. Refused, or understood within its own bounds.
private func testOneInput(_ start: UnsafePointer<UInt8>?, _ count: Int) -> CInt {
    let bytes = UnsafeBufferPointer(start: start, count: count)
    let text = String(decoding: bytes, as: UTF8.self)
    var lines = text.split(separator: "\n", maxSplits: 8, omittingEmptySubsequences: false).map(String.init)
    let body = lines.count > 8 ? lines.removeLast() : ""
    route(lines.first ?? "")
    for line in lines { header(line) }
    manifest(body.isEmpty ? Data(bytes) : Data(body.utf8))
    return 0
}

private func route(_ target: String) {
    let parts = target.split(separator: "?", maxSplits: 1, omittingEmptySubsequences: false)
    let path = PercentEncoding.decoded(parts.first ?? "")
    let route = RegistryRoute(path: path)
    if let repository = route.repository {
        // It becomes a file's name: nothing of it leads elsewhere.
        guard ImageReference(repository + ":x") != nil, !repository.split(separator: "/").contains(".."),
            !repository.hasPrefix("/"), !repository.utf8.contains(0)
        else { fatalError("a repository that is none: \(repository)") }
    }
    if case .upload(_, let id) = route, id.contains("/") { fatalError("an upload in a directory: \(id)") }
    let names = ["a", "a/b", "b", "z"]
    let page = RegistryQuery(parts.count > 1 ? String(parts[1]) : "").page(names)
    guard page.items.count <= names.count, page.items.allSatisfy(names.contains) else { fatalError("a page of others") }
    guard PercentEncoding.decoded(PercentEncoding.encoded(path)) == path else {
        fatalError("an escape is lost: \(path)")
    }
}

private func header(_ line: String) {
    for size in [0, 1, 1 << 20, Int64.max] {
        guard case .part(let part) = ByteRange.parse(line, of: size) else { continue }
        guard part.lowerBound >= 0, part.upperBound <= size, !part.isEmpty else {
            fatalError("a range outside its content: \(line)")
        }
    }
    for number in [ContentRange.start(line), ContentRange.whole(line), ContentRange.arrived(line)] {
        if let number, number < 0 { fatalError("a place before the first: \(line)") }
    }
    if let seconds = RetryAfter.seconds(line), !(seconds >= 0) { fatalError("a wait that was over before: \(line)") }
    for challenge in Challenge.parse(line) where challenge.scheme.isEmpty { fatalError("a challenge of no kind") }
}

private func manifest(_ data: Data) {
    guard let manifest = try? JSONDecoder().decode(ImageManifest.self, from: data),
        ImageManifest.excess(of: manifest.layers) == nil
    else { return }
    var total: Int64 = 0
    for layer in manifest.layers { total += layer.size }
    guard total <= ImageManifest.Limit.bytes else { fatalError("layers of more than is allowed") }
}

/// SwiftPM links this as the program's main.
@_cdecl("RegistryRequestFuzzer_main")
public func run(
    _ count: CInt, _ arguments: UnsafeMutablePointer<UnsafeMutablePointer<CChar>?>?
) -> CInt {
    var count = count
    var arguments = arguments
    return LLVMFuzzerRunDriver(&count, &arguments) { testOneInput($0, $1) }
}
