import ContainerRuntime
import Diagnostics
import Foundation
import LaunchPlan
import TestSupport
import Testing

@Suite struct CDITests {
    private static let specification = """
        ---
        cdiVersion: 0.5.0
        kind: acme.com/gpu
        containerEdits:
          env:
          - ACME=all=yes
          deviceNodes:
          - path: /dev/acmectl
          hooks:
          - hookName: createContainer
            path: /usr/bin/nvidia-cdi-hook
            args: [nvidia-cdi-hook, create-symlinks, --link, "libacme.so.1::\(HostFixture.libraries)/libacme.so"]
          - hookName: createContainer
            path: /usr/bin/nvidia-ctk
            args: ["nvidia-ctk", "hook", "update-ldcache", "--folder", "/usr/lib"]
          mounts:
          - hostPath: \(HostFixture.libraries)/libacme.so.1.2
            containerPath: \(HostFixture.libraries)/libacme.so.1.2
            options: [ro, nosuid]
        devices:
        - name: "0"
          containerEdits:
            deviceNodes:
            - {path: /dev/acme0, hostPath: /dev/acme-zero, permissions: r}
        - name: all
        """

    private func host(_ files: [String: String]) throws -> HostFixture {
        let host = try HostFixture()
        try host.library("libacme.so.1.2", soname: "libacme.so.1")
        for (name, text) in files { try host.file(name, text) }
        return host
    }

    private func plan(_ host: HostFixture, _ names: [String]) throws -> DevicePlan {
        let libraries = try host.host()
        let image = try HostFixture().image()
        var plan = DevicePlan(host: libraries, image: image)
        try CDIPlanning(host: libraries, image: image).add(names, to: &plan)
        return plan
    }

    @Test func devicesOfAYAMLFile() throws {
        let host = try host(["/etc/cdi/acme.yaml": Self.specification])
        let plan = try plan(host, ["acme.com/gpu=0"])
        let mounts = Dictionary(uniqueKeysWithValues: plan.mounts.map { ($0.destination, $0) })
        #expect(mounts["/dev/acmectl"]?.source == host.path + "/dev/acmectl")
        #expect(mounts["/dev/acme0"]?.source == host.path + "/dev/acme-zero")
        #expect(mounts["/dev/acme0"]?.isReadOnly == true)
        #expect(mounts[HostFixture.libraries + "/libacme.so.1.2"]?.isReadOnly == true)
        #expect(plan.libraries.files.keys.sorted() == ["libacme.so", "libacme.so.1", "libacme.so.1.2"])
        #expect(plan.variables.map { "\($0.name)=\($0.value)" } == ["ACME=all=yes"])
        #expect(try !self.plan(host, ["acme.com/gpu=all"]).mounts.contains { $0.destination == "/dev/acme0" })
    }

    @Test func laterDirectoryWinsAndJSONIsRead() throws {
        let json =
            #"{"cdiVersion":"0.6.0","kind":"acme.com\/gpu","devices":[{"name":"0","containerEdits":{"#
            + "\n\t\t" + #""deviceNodes":[{"path":"/dev/other"}],"env":["A=\u00fc"]}}]}"#
        let host = try host(["/etc/cdi/acme.yaml": Self.specification, "/var/run/cdi/acme.json": json])
        let plan = try plan(host, ["acme.com/gpu=0"])
        #expect(plan.mounts.map(\.destination) == ["/dev/other"])
        #expect(plan.variables.first?.value == "ü")
    }

    @Test(
        arguments: [
            ("cdiVersion: 9.0.0\nkind: a.com/b\ndevices: [{name: x}]", "newer"),
            ("kind: a.com/b", "missing"), ("[1, 2", "line"), ("a: &x [*x]\nb: *x", "alias"), ("", "empty"),
            ("cdiVersion: 0.5.0\nkind: ab\n", "VENDOR/CLASS"),
            ("cdiVersion: 0.5.0\nkind: a.com/b\ndevices: [{name: x}, {name: x}]", "twice"),
        ]) func badFilesAreNamed(_ text: String, _ reason: String) throws
    {
        let host = try host(["/etc/cdi/bad.yaml": text])
        var failure: Diagnostic?
        do { _ = try plan(host, ["a.com/b=x"]) } catch { failure = error as? Diagnostic }
        #expect(failure?.code.rawValue == "cdi-invalid")
        let words = failure?.reasons.joined(separator: " ") ?? ""
        #expect(words.contains("/etc/cdi/bad.yaml") && words.contains(reason), "\(words)")
    }

    @Test(
        arguments: [
            ("hooks: [{hookName: poststart, path: /bin/sh, args: [sh, -c, id]}]", "/bin/sh"),
            (
                "hooks: [{hookName: createContainer, path: /x/nvidia-ctk, args: [nvidia-ctk, hook, format-disk]}]",
                "format-disk"
            ),
            ("intelRdt: {closID: x}", "intelRdt"), ("additionalGids: [44]", "additionalGids"),
            ("mounts: [{hostPath: /not/there, containerPath: /x}]", "does not exist"),
            ("mounts: [{hostPath: /etc, containerPath: /x, type: overlay}]", "overlay"),
            ("deviceNodes: [{path: relative}]", "absolute"), ("env: [NOVALUE]", "NOVALUE"),
        ]) func whatIsNotDoneIsRefused(_ edits: String, _ reason: String) throws
    {
        let host = try host([
            "/etc/cdi/a.yaml": "cdiVersion: 0.5.0\nkind: a.com/b\ndevices: [{name: x, containerEdits: {\(edits)}}]"
        ])
        var failure: Diagnostic?
        do { _ = try plan(host, ["a.com/b=x"]) } catch { failure = error as? Diagnostic }
        #expect(failure?.code.rawValue == "cdi-invalid")
        #expect(failure?.reasons.joined().contains(reason) == true, "\(String(describing: failure))")
    }

    @Test func unknownAndAmbiguous() throws {
        let host = try host(["/etc/cdi/a.yaml": Self.specification, "/etc/cdi/b.yaml": Self.specification])
        #expect(diagnosticCode { _ = try plan(host, ["acme.com/gpu=0"]) } == "cdi-invalid")
        #expect(diagnosticCode { _ = try plan(HostFixture(), ["acme.com/gpu=0"]) } == "cdi-unknown")
        #expect(
            CDIPlanning.isName("nvidia.com/gpu=0") && !CDIPlanning.isName("/dev/x=y") && !CDIPlanning.isName("a=b/c"))
    }

    /// A driver that shows itself in a specification only.
    @Test func gpusBySpecification() throws {
        let host = try host(["/etc/cdi/acme.yaml": Self.specification])
        let libraries = try host.host()
        let image = try HostFixture().image()
        var plan = DevicePlan(host: libraries, image: image)
        try GPUPlanning(host: libraries, image: image) { _ in nil }
            .add(.count(1), vendor: nil, option: "--gpus 1", to: &plan)
        #expect(plan.mounts.contains { $0.destination == "/dev/acme0" })
    }
}
