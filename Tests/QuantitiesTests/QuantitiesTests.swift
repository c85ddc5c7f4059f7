import Quantities
import TestSupport
import Testing

@Suite struct QuantitiesTests {
    /// One meaning whatever the case and the letters behind: docker's `--memory` and Slurm's `--mem` agree on it.
    @Test(
        arguments: [
            ("0", 0), ("7", 7), ("7b", 7), ("512m", 512 << 20), ("512M", 512 << 20), ("512mb", 512 << 20),
            ("512MiB", 512 << 20), ("2g", 2 << 30), ("1.5g", 3 << 29), ("0.5k", 512), ("8191t", 8191 << 40),
            ("9223372036854775807", Int64.max),
        ] as [(String, Int64)]) func sizes(_ text: String, _ bytes: Int64)
    {
        #expect(TypedSize.bytes(text) == bytes)
    }

    @Test(arguments: [
        "", "g", ".", ".5g", "1.", "1.5.5g", "-1", "+1", "1 g", " 1", "1x", "1gg", "1bi", "1ibb", "١", "1e3",
        "1.0000001g",
        "9223372036854775808", "8388608t", "9223372036854775807k", "0x10", "nan", "inf",
    ]) func noSizes(_ text: String) {
        #expect(TypedSize.bytes(text) == nil)
    }

    @Test func aNumberAloneCountsWhatItsOptionSays() {
        #expect(TypedSize.bytes("100", bareUnit: 1 << 20) == 100 << 20)
        #expect(TypedSize.bytes("100b", bareUnit: 1 << 20) == 100)
        #expect(TypedSize.bytes("9223372036854775807", bareUnit: 1 << 20) == nil)
    }

    @Test(arguments: [
        ("90", 90_000), ("1.5", 1500), ("250ms", 250), ("30s", 30_000), ("10m", 600_000), ("10min", 600_000),
        ("2h30m", 9_000_000), ("1d", 86_400_000), ("2w", 1_209_600_000), ("0", 0),
    ]) func durations(_ text: String, _ milliseconds: Int) {
        #expect(TypedDuration.milliseconds(text, bare: .seconds) == milliseconds)
    }

    @Test(arguments: ["", "s", "1x", "1h30", "-1s", "1 s", "1e400s", "999999999999999d", "1..5s", "nan"])
    func noDurations(_ text: String) {
        #expect(TypedDuration.milliseconds(text, bare: .seconds) == nil)
    }

    @Test func aBareNumber() {
        #expect(TypedDuration.milliseconds("2", bare: .minutes) == 120_000)
        #expect(TypedDuration.milliseconds("2", bare: .nothing) == nil)
        #expect(TypedDuration.milliseconds("2d", bare: .nothing) == 172_800_000)
    }

    @Test(arguments: [
        ("90", 5400), ("1:30", 90), ("1:00:00", 3600), ("2-0", 172_800), ("1-2:30", 95_400), ("1-02:03:04", 93_784),
    ]) func limitsInSlurmsWords(_ text: String, _ seconds: Int) {
        #expect(TypedDuration.slurmSeconds(text) == seconds)
    }

    @Test(arguments: [("5", 5), ("29:10", 1750), ("1:00:00", 3600), ("1-02:03:04", 93_784)])
    func countsThatSchedulersPrint(_ text: String, _ seconds: Int) {
        #expect(TypedDuration.clockSeconds(text) == seconds)
    }

    @Test(arguments: ["", ":", "1:", "a", "1-", "-1", "1:2:3:4", "1-2-3", "100000-0", "99999999", "UNLIMITED", "+-1"])
    func noCounts(_ text: String) {
        #expect(TypedDuration.slurmSeconds(text) == nil && TypedDuration.clockSeconds(text) == nil)
    }
}
