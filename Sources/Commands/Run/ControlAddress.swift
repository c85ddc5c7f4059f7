import EtcdStore
import FoundationEssentials
import Glibc
import LinuxSystem
import Telemetry
import VirtualCluster

/// How the leader of a running job is reached: a file in its record that only the user can read. Who has
/// the secret may do with the job what the user may.
struct ControlAddress: Codable {
    /// `ADDRESS:PORT`, nearest first.
    var addresses: [String]
    /// Hexadecimal.
    var secret: String
    /// The store the job's keys are in, when it is not the leader.
    var etcd: EtcdSettings?
    /// The virtual cluster in whose network the leader is.
    var cluster: String?

    func write(to directory: String) throws(SyscallError) {
        let path = "\(directory)/\(RecordFile.control)"
        guard let content = try? JSONEncoder().encode(self) else { throw SyscallError("write", path, errno: EINVAL) }
        try OwnedDescriptor.open(path, O_WRONLY | O_CREAT | O_EXCL, mode: 0o600)
            .writeAll(String(decoding: content, as: UTF8.self))
    }

    init(addresses: [String], secret: String, etcd: EtcdSettings?) {
        self.etcd = etcd
        cluster = ClusterRecord.surrounding()
        self.addresses = addresses
        self.secret = secret
    }

    /// Nil when the job has ended, or its file is not ours alone.
    init?(reading directory: String) {
        guard let file = try? OwnedDescriptor.open("\(directory)/\(RecordFile.control)", O_RDONLY | O_NOFOLLOW) else {
            return nil
        }
        var status = stat()
        guard fstat(file.raw, &status) == 0, status.st_uid == geteuid(), status.st_mode & 0o077 == 0,
            let bytes = try? file.readAll(limit: 1 << 16),
            let found = try? JSONDecoder().decode(ControlAddress.self, from: Data(bytes))
        else { return nil }
        self = found
    }
}
