import FoundationEssentials
import Glibc
import ImageStore
import LinuxSystem
import NIOHTTP1
import OCIModel
import RegistryWire

/// What each request of the distribution API does; reading here, writing in `RegistryHandler+Writing`.
struct RegistryHandler: Sendable {
    let content: RegistryContent
    let imports: ImportQueue
    let upstream: Upstream?
    let admission: RegistryAdmission

    /// Never throws: a failure is an answer, too.
    func answer(_ head: HTTPRequestHead, _ body: RequestBody, _ peer: RegistryAdmission.Peer) async -> RegistryReply {
        let parts = head.uri.split(separator: "?", maxSplits: 1, omittingEmptySubsequences: false)
        let route = RegistryRoute(path: PercentEncoding.decoded(parts.first ?? ""))
        if route == .token { return admission.token(head, peer) }
        if let refusal = refusal(head, route, peer) { return refusal }
        do {
            return try await answer(route, head, RegistryQuery(parts.count > 1 ? String(parts[1]) : ""), body)
        } catch let fault as RegistryFault {
            return upstreamFailure(fault)
        } catch let error as SyscallError {
            if error.errno == ENOENT { return RegistryReply(.uploadUnknown, "it has ended meanwhile") }
            var reply = RegistryReply(.uploadInvalid, "the registry cannot write: \(error.reason)")
            reply.status = error.errno == ENOSPC || error.errno == EDQUOT ? .insufficientStorage : .internalServerError
            return reply
        } catch {
            return RegistryReply(.uploadInvalid, "the request broke off")
        }
    }

    /// nil for who may.
    private func refusal(
        _ head: HTTPRequestHead, _ route: RegistryRoute, _ peer: RegistryAdmission.Peer
    ) -> RegistryReply? {
        let isRead = head.method == .GET || head.method == .HEAD
        var wanted: RegistryAdmission.Access = isRead ? .pull : .push
        guard let access = admission.access(head, peer), access > .none else {
            return admission.refusal(head, peer, repository: route.repository, wanting: wanted)
        }
        if !isRead, admission.isReadOnly { return RegistryReply(.denied, "this registry takes no pushes") }
        // Clients ask here what to bring, and bring it from then on (distribution token specification).
        if route == .base, !admission.isReadOnly, !head.headers.contains(name: "Authorization") { wanted = .push }
        // The state of an upload is its writer's.
        if case .upload = route, admission.job == nil { wanted = .push }
        return access >= wanted
            ? nil : admission.refusal(head, peer, repository: route.repository, wanting: wanted)
    }

    private func answer(
        _ route: RegistryRoute, _ head: HTTPRequestHead, _ query: RegistryQuery, _ body: RequestBody
    ) async throws -> RegistryReply {
        let isRead = head.method == .GET || head.method == .HEAD
        switch route {
        case .base: return RegistryReply(json: Array("{}".utf8))
        case .unknown, .token: return RegistryReply(.nameUnknown, "no such endpoint")
        case .invalid(let code): return RegistryReply(code, "not a name or a digest")
        case .catalog: return catalog(query)
        case .tags(let name): return isRead ? tags(name, query) : RegistryReply(.unsupported, "tags are read only")
        case .referrers(let name, let digest): return try referrers(name, digest, query)
        case .manifest(let name, let reference):
            switch head.method {
            case .GET, .HEAD: return try await manifest(name, reference)
            case .PUT: return try await putManifest(name, reference, head, body)
            case .DELETE: return deleteManifest(name, reference)
            default: return RegistryReply(.unsupported, "method not allowed")
            }
        case .blob(let name, let digest):
            switch head.method {
            case .GET, .HEAD: return try await blob(name, digest, head)
            case .DELETE: return deleted(content.deleteBlob(digest), .blobUnknown)
            default: return RegistryReply(.unsupported, "method not allowed")
            }
        case .startUpload(let name):
            guard head.method == .POST else { return RegistryReply(.unsupported, "method not allowed") }
            return try await startUpload(name, query, body)
        case .upload(let name, let id): return try await upload(name, id, head, query, body)
        }
    }

    private func upstreamFailure(_ fault: RegistryFault) -> RegistryReply {
        if fault.code == .registryBusy { return RegistryReply(.tooManyRequests, "the upstream registry is busy") }
        var reply = RegistryReply(.manifestUnknown, "the upstream registry does not answer")
        reply.status = .badGateway
        return reply
    }

    private func catalog(_ query: RegistryQuery) -> RegistryReply {
        let page = query.page(content.repositories())
        var reply = json(["repositories": JSONValue.array(page.items.map { .string($0) })])
        if let next = page.next { reply.headers.add(name: "Link", value: "</v2/_catalog?\(next)>; rel=\"next\"") }
        return reply
    }

    private func tags(_ name: String, _ query: RegistryQuery) -> RegistryReply {
        guard let all = content.tags(name) else { return RegistryReply(.nameUnknown, "no such repository") }
        let page = query.page(all)
        var reply = json(["name": .string(name), "tags": .array(page.items.map { .string($0) })])
        if let next = page.next {
            reply.headers.add(name: "Link", value: "</v2/\(name)/tags/list?\(next)>; rel=\"next\"")
        }
        return reply
    }

    private func json(_ value: [String: JSONValue]) -> RegistryReply {
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
        return RegistryReply(json: Array((try? encoder.encode(value)) ?? Data()))
    }

    private struct ReferrerIndex: Encodable {
        var schemaVersion = 2
        var mediaType = MediaType.index
        var manifests: [ReferrerDescriptor]
    }

    private func referrers(_ name: String, _ digest: Digest, _ query: RegistryQuery) throws -> RegistryReply {
        var found = content.referrers(name, of: digest)
        let wanted = query["artifactType"]
        if let wanted { found = found.filter { $0.artifactType == wanted } }
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
        var reply = RegistryReply(
            json: Array(try encoder.encode(ReferrerIndex(manifests: found))), type: MediaType.index)
        if wanted != nil { reply.headers.add(name: "OCI-Filters-Applied", value: "artifactType") }
        return reply
    }

    private func manifest(_ name: String, _ reference: String) async throws -> RegistryReply {
        guard Digest(reference) != nil || ImageReference("x:" + reference) != nil else {
            return RegistryReply(.manifestUnknown, "not a tag or a digest")
        }
        let here = content.manifest(name, reference)
        var found = here
        // A digest's content never changes; a tag may have moved on upstream.
        if let upstream, here == nil || Digest(reference) == nil {
            do throws(RegistryFault) { found = try await upstream.manifest(name, reference) ?? here } catch {
                // What is kept is better than nothing while upstream is away.
                if here == nil { throw error }
            }
        }
        guard let found, let bytes = content.bytes(found.digest) else {
            return RegistryReply(.manifestUnknown, "no such manifest")
        }
        var reply = RegistryReply(json: bytes, type: found.mediaType)
        reply.headers.add(name: "Docker-Content-Digest", value: found.digest.description)
        reply.headers.add(name: "ETag", value: "\"\(found.digest)\"")
        return reply
    }

    private func blob(_ name: String, _ digest: Digest, _ head: HTTPRequestHead) async throws -> RegistryReply {
        if let found = content.blob(digest) {
            return reply(digest, size: found.size, head) { .file(found, offset: $0, length: $1) }
        }
        guard let upstream, let arriving = try await upstream.blob(name, digest) else {
            return RegistryReply(.blobUnknown, "no such blob")
        }
        return reply(digest, size: arriving.size, head, takesEnd: false) { offset, _ in
            .arriving(arriving, offset: offset)
        }
    }

    private func reply(
        _ digest: Digest, size: Int64, _ head: HTTPRequestHead, takesEnd: Bool = true,
        _ content: (Int64, Int64) -> RegistryReply.Content
    ) -> RegistryReply {
        var reply = RegistryReply(
            .ok,
            [
                ("Content-Type", "application/octet-stream"), ("Docker-Content-Digest", digest.description),
                ("Accept-Ranges", "bytes"), ("ETag", "\"\(digest)\""),
            ])
        var range: Range<Int64> = 0..<size
        if let asked = head.headers.first(name: "Range").flatMap({ ByteRange.parse($0, of: size) }) {
            guard case .part(let part) = asked else {
                var refused = RegistryReply(.rangeNotSatisfiable, [("Content-Range", "bytes */\(size)")])
                refused.length = 0
                return refused
            }
            if takesEnd || part.upperBound == size {
                range = part
                reply.status = .partialContent
                reply.headers.add(
                    name: "Content-Range", value: "bytes \(part.lowerBound)-\(part.upperBound - 1)/\(size)")
            }
        }
        reply.length = range.upperBound - range.lowerBound
        reply.content = content(range.lowerBound, reply.length)
        return reply
    }

    private func deleteManifest(_ name: String, _ reference: String) -> RegistryReply {
        guard let digest = Digest(reference) else {
            guard ImageReference("x:" + reference) != nil else { return RegistryReply(.manifestUnknown, "no such tag") }
            return deleted(content.deleteTag(name, reference), .manifestUnknown)
        }
        return deleted(content.deleteManifest(name, digest), .manifestUnknown)
    }

    private func deleted(_ result: RegistryContent.Deletion, _ unknown: RegistryErrorCode) -> RegistryReply {
        switch result {
        case .done: RegistryReply(.accepted)
        case .unknown: RegistryReply(unknown, "nothing to delete")
        case .heldByStore: RegistryReply(.unsupported, "an image of the store uses it: trireme image rm")
        }
    }
}
