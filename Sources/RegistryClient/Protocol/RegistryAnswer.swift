import AsyncHTTPClient
import Diagnostics
import FoundationEssentials
import Glibc
import ImageFormats
import NIOCore
import NIOHTTP1
import NIOPosix
import NIOSSL
import RegistryWire

extension RegistryFault {
    /// What a remote side wrote, fit for a terminal and of bearable length.
    static func printable(_ text: String) -> String { ArchiveFault.printable(Array(text.utf8.prefix(300))) }

    /// A failure below HTTP.
    init(transport error: any Error, host: String) {
        let text = "\(error)"
        if error is CancellationError {
            self = .transient(.registryUnreachable, "cancelled")
        } else if text.contains("CERTIFICATE_VERIFY_FAILED") || text.contains("unableToValidateCertificate") {
            self.init(
                .registryUntrusted, ["the certificate of \(host) is not signed by a trusted authority"],
                remedies: ["--cacert FILE, or FILE as /etc/docker/certs.d/\(host)/ca.crt"])
        } else if let error = error as? NIOSSLExtraError {
            self.init(.registryUntrusted, ["the certificate of \(host) does not fit: \(error)"])
        } else if let error = error as? HTTPClientError, error == .tlsHandshakeTimeout {
            self = .transient(.registryUnreachable, "\(host): the TLS handshake took too long")
        } else if error is NIOSSLError || error is BoringSSLError {
            self.init(
                .registryUntrusted, ["no TLS connection to \(host): \(RegistryFault.printable(text))"],
                remedies: ["--insecure, if this registry speaks plain HTTP"])
        } else if let error = error as? NIOConnectionError {
            if error.dnsAError != nil || error.dnsAAAAError != nil {
                self = .transient(.registryUnreachable, "the name \(host) cannot be resolved")
            } else {
                let cause = (error.connectionErrors.first?.error as? IOError).map { IOErrorText.of($0) }
                self = .transient(.registryUnreachable, "connect \(host): \(cause ?? "failed")")
            }
        } else if let error = error as? IOError {
            self = .transient(.registryUnreachable, "\(host): \(IOErrorText.of(error))")
        } else if let error = error as? HTTPClientError {
            self = .transient(.registryUnreachable, "\(host): \(RegistryFault.words(error))")
        } else {
            self = .transient(.registryUnreachable, "\(host): \(RegistryFault.printable(text))")
        }
    }

    private static func words(_ error: HTTPClientError) -> String {
        switch error {
        case .connectTimeout: "no connection within the time limit"
        case .remoteConnectionClosed: "the connection was closed in the middle of an answer"
        case .readTimeout: "no answer within the time limit"
        default: RegistryFault.printable(error.shortDescription)
        }
    }

    private enum IOErrorText {
        static func of(_ error: IOError) -> String {
            let text = String(cString: strerror(error.errnoCode))
            return text.prefix(1).lowercased() + text.dropFirst()
        }
    }

    private struct ErrorList: Decodable {
        struct Entry: Decodable {
            var code: String?
            var message: String?
        }
        var errors: [Entry]
    }

    /// A status that is no success, with what the registry says of it (distribution-spec, "Error Codes").
    init(status: HTTPResponseStatus, headers: HTTPHeaders, body: [UInt8], what: String) {
        var said: [String] = []
        if let list = try? JSONDecoder().decode(ErrorList.self, from: Data(body)) {
            said = list.errors.prefix(3).compactMap { entry in
                let words = [entry.code, entry.message].compactMap { $0 }.filter { !$0.isEmpty }
                return words.isEmpty ? nil : RegistryFault.printable(words.joined(separator: ": "))
            }
        }
        let answer = "\(what): the registry answers \(status.code) \(status.reasonPhrase)"
        let reasons = [answer] + said
        switch status.code {
        case 401, 403: self.init(.registryAuthentication, reasons)
        case 404: self.init(.registryNotFound, reasons)
        case 408, 425, 429, 500...599:
            self = .transient(.registryBusy, reasons.joined(separator: ": "))
            retryAfter = headers.first(name: "Retry-After").flatMap(RetryAfter.seconds)
        default: self.init(.registryRefused, reasons)
        }
    }
}

extension HTTPClientResponse {
    /// The whole body, at most `limit` bytes; a longer one is refused.
    func bytes(limit: Int, idleSeconds: Double, host: String) async throws(RegistryFault) -> [UInt8] {
        if let length = headers.first(name: "Content-Length").flatMap(Int64.init), length > Int64(limit) {
            throw .malformed("an answer of \(length) bytes where at most \(limit) make sense")
        }
        let activity = Activity()
        let body = self.body
        do {
            return try await withStallLimit(idleSeconds, activity) {
                var bytes: [UInt8] = []
                for try await buffer in body {
                    activity.beat()
                    bytes.append(contentsOf: buffer.readableBytesView)
                    if bytes.count > limit {
                        throw RegistryFault.malformed("an answer of more than \(limit) bytes where fewer make sense")
                    }
                }
                return bytes
            }
        } catch let fault as RegistryFault { throw fault } catch { throw RegistryFault(transport: error, host: host) }
    }
}
