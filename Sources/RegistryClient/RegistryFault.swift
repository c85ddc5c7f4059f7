import Diagnostics

/// Why a step with a registry failed, before the user's word for the image is put in front.
package struct RegistryFault: Error, Sendable {
    package var code: DiagnosticCode
    package var reasons: [String]
    package var remedies: [String]
    /// The same request may succeed a moment later.
    package var isTransient = false
    /// Seconds the registry asked to wait.
    package var retryAfter: Double?

    package init(_ code: DiagnosticCode, _ reasons: [String], remedies: [String] = []) {
        self.code = code
        self.reasons = reasons
        self.remedies = remedies
    }

    static func transient(_ code: DiagnosticCode, _ reason: String, retryAfter: Double? = nil) -> RegistryFault {
        var fault = RegistryFault(code, [reason])
        fault.isTransient = true
        fault.retryAfter = retryAfter
        return fault
    }

    /// The answer is not what the distribution specification says.
    static func malformed(_ reason: String) -> RegistryFault { RegistryFault(.registryProtocol, [reason]) }

    package func diagnostic(_ subject: String) -> Diagnostic {
        Diagnostic(code, subject, reasons: reasons, remedies: remedies)
    }
}

extension DiagnosticCode {
    static let registryUnreachable = DiagnosticCode("registry-unreachable")
    static let registryProtocol = DiagnosticCode("registry-protocol")
    static let registryAuthentication = DiagnosticCode("registry-authentication")
    static let registryNotFound = DiagnosticCode("registry-not-found")
    static let registryBusy = DiagnosticCode("registry-busy")
    static let registryRefused = DiagnosticCode("registry-refused")
    static let registryUntrusted = DiagnosticCode("registry-untrusted")
    static let contentMismatch = DiagnosticCode("content-mismatch")
    static let notAnImage = DiagnosticCode("not-an-image")
    static let credentials = DiagnosticCode("credentials")
    static let registryBlocked = DiagnosticCode("registry-blocked")
    static let policyInvalid = DiagnosticCode("policy-invalid")
    static let imageUnsigned = DiagnosticCode("image-unsigned")
    static let registryServe = DiagnosticCode("registry-serve")
}
