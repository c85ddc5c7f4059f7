import OCIModel
import RegistryWire
import TestSupport
import Testing

/// Every number that the other side of the distribution protocol writes.
@Suite struct RegistryWireTests {
    @Test func extremes() {
        for a in ExtremeNumbers.all {
            for b in ExtremeNumbers.all {
                for size in ExtremeNumbers.signed where size >= 0 {
                    guard case .part(let part) = ByteRange.parse("bytes=\(a)-\(b)", of: size) else { continue }
                    #expect(part.lowerBound >= 0 && part.upperBound <= size && !part.isEmpty, "\(a)-\(b) of \(size)")
                }
                _ = ContentRange.start("bytes \(a)-\(b)/\(a)")
                _ = ContentRange.whole("bytes \(a)-\(b)/\(a)")
                let page = RegistryQuery("n=\(a)&last=\(b)").page(["a", "b", "c"])
                #expect(page.items.count <= 3)
            }
            #expect(ContentRange.arrived("0-\(a)").map { $0 >= 0 } ?? true, "\(a)")
            #expect(RetryAfter.seconds(a).map { $0 >= 0 } ?? true, "\(a)")
            _ = RetryAfter.seconds("Sun, \(a) Nov \(a) \(a):\(a):\(a) GMT")
            #expect(Decimal64.parse(a).map { $0 >= 0 } ?? true, "\(a)")
        }
    }

    @Test func ranges() {
        #expect(ByteRange.parse("bytes=0-9223372036854775807", of: 10) == .unsatisfiable)
        #expect(ByteRange.parse("bytes=0-99", of: 10) == .part(0..<10))
        #expect(ByteRange.parse("bytes=-3", of: 10) == .part(7..<10))
        #expect(ByteRange.parse("bytes=+1-2", of: 10) == nil)
        #expect(ByteRange.parse("bytes=5-4", of: 10) == nil)
        #expect(ContentRange.arrived("0-9223372036854775807") == nil)
        #expect(ContentRange.arrived("0-999") == 1000)
        #expect(PercentEncoding.decoded("%2F%+1%zz%4") == "/%+1%zz%4")
    }

    @Test func sizesOfLayers() {
        func layers(_ sizes: [Int64]) -> [Descriptor] {
            sizes.map { Descriptor(mediaType: nil, digest: Digest(bytes: [UInt8](repeating: 0, count: 32)), size: $0) }
        }
        #expect(ImageManifest.excess(of: layers([0, 1, 1 << 40])) == nil)
        for a in ExtremeNumbers.signed {
            for b in ExtremeNumbers.signed {
                let isBearable = a >= 0 && b >= 0 && a <= 1 << 50 && b <= (1 << 50) - a
                #expect((ImageManifest.excess(of: layers([a, b])) == nil) == isBearable, "\(a) \(b)")
            }
        }
        #expect(ImageManifest.excess(of: layers(Array(repeating: 1, count: 501)))?.contains("500") == true)
    }
}
