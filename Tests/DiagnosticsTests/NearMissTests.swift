import Diagnostics
import Testing

@Suite struct NearMissTests {
    @Test(arguments: [
        ("imgae", "image"), ("clutser", "cluster"), ("rn", "run"), ("openfaom", "openfoam"), ("clu", "cluster"),
    ])
    func findsTheIntendedWord(typed: String, meant: String) {
        #expect(NearMiss.nearest(to: typed, among: ["image", "cluster", "run", "openfoam", "doctor"]).first == meant)
    }

    @Test func saysNothingForAStranger() {
        #expect(NearMiss.nearest(to: "zebra", among: ["image", "cluster", "run"]).isEmpty)
    }
}

@Suite struct DiagnosticTests {
    @Test func rendersSubjectCausesCodeAndHints() {
        let diagnostic = Diagnostic(
            DiagnosticCode("image-not-found"), "image 'x'", reasons: ["not in the store /s"],
            remedies: ["trireme image ls"])
        #expect(
            diagnostic.because("first").rendered()
                == "trireme: image 'x': first: not in the store /s [image-not-found]\n  hint: trireme image ls\n")
    }
}
