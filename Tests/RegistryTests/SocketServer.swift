import Foundation
import Glibc
import Synchronization

/// A request as it came in.
struct SeenRequest: Sendable {
    var method: String
    /// With the query.
    var target: String
    /// Names in lower case.
    var headers: [String: String]
    var body: [UInt8]
    var path: String { String(target.prefix { $0 != "?" }) }
}

/// An answer, or how it goes wrong.
struct Reply: Sendable {
    var status = 200
    var headers: [String: String] = [:]
    var body: [UInt8] = []
    /// Claimed in place of the body's own length; nil with `isChunked`.
    var contentLength: Int?
    var isChunked = false
    /// Bytes of the body after which the connection is reset.
    var resetAfter: Int?
    /// Bytes of the body after which nothing more comes.
    var stallAfter: Int?
    /// The body again and again, until the client goes.
    var isEndless = false
    var delaySeconds = 0.0

    static func json(_ text: String, type: String = "application/json", status: Int = 200) -> Reply {
        Reply(status: status, headers: ["Content-Type": type], body: Array(text.utf8))
    }
    static let notFound = Reply.json(#"{"errors":[{"code":"MANIFEST_UNKNOWN","message":"no"}]}"#, status: 404)
}

/// An HTTP server on this machine that answers as a test says, right or wrong. One thread per connection.
final class SocketServer: Sendable {
    let port: Int
    private let listener: Int32
    private let seen = Mutex<[SeenRequest]>([])
    private let isClosed = Mutex(false)
    private let respond: @Sendable (SeenRequest, Int) -> Reply

    /// - Parameter respond: gets the request and how many of the same method and path came before it.
    init(_ respond: @escaping @Sendable (SeenRequest, Int) -> Reply) throws {
        self.respond = respond
        listener = socket(AF_INET, Int32(SOCK_STREAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue), 0)
        var address = sockaddr_in()
        address.sin_family = sa_family_t(AF_INET)
        address.sin_addr.s_addr = UInt32(0x7F00_0001).bigEndian
        var length = socklen_t(MemoryLayout<sockaddr_in>.size)
        let fd = listener
        let result = withUnsafeMutablePointer(to: &address) { pointer in
            pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                bind(fd, $0, length) | listen(fd, 128) | getsockname(fd, $0, &length)
            }
        }
        guard result == 0 else { throw POSIXError(.EADDRINUSE) }
        port = Int(UInt16(bigEndian: address.sin_port))
        Thread.detachNewThread { [self] in
            while true {
                let connection = accept(listener, nil, nil)
                if connection >= 0 { _ = fcntl(connection, F_SETFD, FD_CLOEXEC) }
                if connection < 0 {
                    if isClosed.withLock({ $0 }) { return }
                    usleep(10_000)
                    continue
                }
                Thread.detachNewThread { [self] in
                    serve(connection)
                    close(connection)
                }
            }
        }
    }

    /// Ends the listening; connections end with their clients.
    func stop() {
        isClosed.withLock { $0 = true }
        shutdown(listener, Int32(SHUT_RDWR))
        close(listener)
    }

    var requests: [SeenRequest] { seen.withLock { $0 } }
    func count(_ method: String, _ path: String) -> Int {
        requests.filter { $0.method == method && $0.path == path }.count
    }

    private func serve(_ connection: Int32) {
        guard let request = SocketServer.read(connection) else { return }
        let before = seen.withLock { all in
            defer { all.append(request) }
            return all.filter { $0.method == request.method && $0.path == request.path }.count
        }
        let reply = respond(request, before)
        if reply.delaySeconds > 0 { Thread.sleep(forTimeInterval: reply.delaySeconds) }
        var head = "HTTP/1.1 \(reply.status) Status\r\nConnection: close\r\n"
        for (name, value) in reply.headers { head += "\(name): \(value)\r\n" }
        head +=
            reply.isChunked || reply.isEndless
            ? "Transfer-Encoding: chunked\r\n\r\n"
            : "Content-Length: \(reply.contentLength ?? reply.body.count)\r\n\r\n"
        guard SocketServer.send(Array(head.utf8), connection), request.method != "HEAD" else { return }
        let body = reply.body[..<min(reply.body.count, reply.resetAfter ?? .max, reply.stallAfter ?? .max)]
        if reply.isChunked || reply.isEndless {
            let chunk = Array("\(String(body.count, radix: 16))\r\n".utf8) + body + Array("\r\n".utf8)
            repeat { guard SocketServer.send(chunk, connection) else { return } } while reply.isEndless
            _ = SocketServer.send(Array("0\r\n\r\n".utf8), connection)
        } else {
            guard SocketServer.send(Array(body), connection) else { return }
        }
        if reply.resetAfter != nil {
            // Unsent bytes are lost and the other side hears RST, not an orderly end.
            var linger = linger(l_onoff: 1, l_linger: 0)
            setsockopt(connection, SOL_SOCKET, SO_LINGER, &linger, socklen_t(MemoryLayout.size(ofValue: linger)))
            Thread.sleep(forTimeInterval: 0.1)
        }
        if reply.stallAfter != nil {
            // Until the client gives up.
            var byte: UInt8 = 0
            while recv(connection, &byte, 1, 0) > 0 {}
        }
    }

    private static func send(_ bytes: [UInt8], _ connection: Int32) -> Bool {
        var rest = bytes[...]
        while !rest.isEmpty {
            let n = rest.withUnsafeBytes {
                Glibc.send(connection, $0.baseAddress, $0.count, Int32(MSG_NOSIGNAL))
            }
            guard n > 0 else { return false }
            rest = rest.dropFirst(n)
        }
        return true
    }

    private static func read(_ connection: Int32) -> SeenRequest? {
        guard let message = HTTPMessage.read(connection, bodyWithoutLength: false) else { return nil }
        let words = message.first.split(separator: " ").map(String.init)
        guard words.count >= 2 else { return nil }
        return SeenRequest(method: words[0], target: words[1], headers: message.headers, body: message.body)
    }
}

/// A message off a socket.
struct HTTPMessage {
    var first: String
    var headers: [String: String]
    var body: [UInt8]

    static func read(_ connection: Int32, bodyWithoutLength: Bool) -> HTTPMessage? {
        var bytes: [UInt8] = []
        var chunk = [UInt8](repeating: 0, count: 64 << 10)
        let mark = Array("\r\n\r\n".utf8)
        var headEnd: Int?
        while headEnd == nil {
            let n = recv(connection, &chunk, chunk.count, 0)
            guard n > 0 else { return nil }
            let from = max(0, bytes.count - 3)
            bytes += chunk[..<n]
            headEnd = (from..<max(from, bytes.count - 3)).first { bytes[$0..<$0 + 4].elementsEqual(mark) }
        }
        let lines = String(decoding: bytes[..<headEnd!], as: UTF8.self).components(separatedBy: "\r\n")
        var headers: [String: String] = [:]
        for line in lines.dropFirst() {
            guard let colon = line.firstIndex(of: ":") else { continue }
            headers[line[..<colon].lowercased()] = line[line.index(after: colon)...].trimmingCharacters(
                in: .whitespaces)
        }
        var body = Array(bytes[(headEnd! + 4)...])
        let length = headers["content-length"].flatMap(Int.init) ?? (bodyWithoutLength ? Int.max : 0)
        if headers["transfer-encoding"] == "chunked" {
            while !body.suffix(5).elementsEqual(Array("0\r\n\r\n".utf8)) {
                let n = recv(connection, &chunk, chunk.count, 0)
                guard n > 0 else { return nil }
                body += chunk[..<n]
            }
            return HTTPMessage(first: lines[0], headers: headers, body: [])
        }
        while body.count < length {
            let n = recv(connection, &chunk, chunk.count, 0)
            if n <= 0 { break }
            body += chunk[..<n]
        }
        return HTTPMessage(first: lines[0], headers: headers, body: body)
    }

    /// One request over a connection of its own.
    static func exchange(
        _ port: Int, _ method: String, _ target: String, headers: [String: String] = [:], body: [UInt8] = []
    ) throws -> (status: Int, headers: [String: String], body: [UInt8]) {
        let connection = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
        defer { close(connection) }
        var address = sockaddr_in()
        address.sin_family = sa_family_t(AF_INET)
        address.sin_port = UInt16(port).bigEndian
        address.sin_addr.s_addr = UInt32(0x7F00_0001).bigEndian
        let connected = withUnsafePointer(to: &address) { pointer in
            pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                connect(connection, $0, socklen_t(MemoryLayout<sockaddr_in>.size))
            }
        }
        guard connected == 0 else { throw POSIXError(.ECONNREFUSED) }
        var text =
            "\(method) \(target) HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\nContent-Length: \(body.count)\r\n"
        for (name, value) in headers { text += "\(name): \(value)\r\n" }
        let bytes = Array((text + "\r\n").utf8) + body
        var rest = bytes[...]
        while !rest.isEmpty {
            let n = rest.withUnsafeBytes {
                Glibc.send(connection, $0.baseAddress, $0.count, Int32(MSG_NOSIGNAL))
            }
            guard n > 0 else { break }
            rest = rest.dropFirst(n)
        }
        // The answer to HEAD has a length and no body: there is nothing to wait for but the end.
        guard let message = HTTPMessage.read(connection, bodyWithoutLength: true),
            let status = message.first.split(separator: " ").dropFirst().first.flatMap({ Int($0) })
        else { throw POSIXError(.EPROTO) }
        return (status, message.headers, message.body)
    }
}
