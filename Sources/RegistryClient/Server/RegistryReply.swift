import NIOCore
import NIOHTTP1
import RegistryWire

/// An answer on its way to a client.
struct RegistryReply {
    enum Content {
        case none
        case bytes([UInt8])
        case file(RegistryContent.Blob, offset: Int64, length: Int64)
        case arriving(ArrivingBlob, offset: Int64)
    }
    var status: HTTPResponseStatus
    var headers = HTTPHeaders()
    var content = Content.none
    /// Of the content, whether it is sent or not (HEAD).
    var length: Int64 = 0

    init(_ status: HTTPResponseStatus, _ headers: [(String, String)] = []) {
        self.status = status
        self.headers = HTTPHeaders(headers)
    }

    init(json bytes: [UInt8], status: HTTPResponseStatus = .ok, type: String = "application/json") {
        self.init(status, [("Content-Type", type)])
        content = .bytes(bytes)
        length = Int64(bytes.count)
    }

    /// The specification's form of an error.
    init(_ error: RegistryErrorCode, _ message: String) {
        // Messages are our own words and names of a grammar without quotes.
        let text = "{\"errors\":[{\"code\":\"\(error.rawValue)\",\"message\":\"\(message)\"}]}\n"
        self.init(json: Array(text.utf8), status: HTTPResponseStatus(statusCode: Int(error.status)))
    }
}
