/// What a virtual cluster is to be: validated once, then passed inward.
package struct ClusterSpecification: Equatable, Sendable {
    package var name: String
    package var scheduler = ClusterScheduler.slurm
    /// Compute nodes, `n1` to `nN`; the controller `ctl` comes on top.
    package var nodeCount: Int
    /// Cores each node declares to the batch system.
    package var cpusPerNode: Int
    /// Memory each node declares to Slurm, in MiB; Grid Engine asks the kernel.
    package var memoryPerNodeMiB: Int
    /// How the user named the image, for messages.
    package var image: String
    /// The directory `layers` are relative to.
    package var layersDirectory: String
    /// Unpacked layers of the node image, topmost first.
    package var layers: [String]
    /// Directories of the host visible in every node.
    package var binds: [Bind]
    /// Where trireme's programs are; bound in every node.
    package var programDirectory: String
    package var account: Account
    /// Further lines of slurm.conf, after ours: a later line of a key wins.
    package var slurmSettings: [String]
    /// Seconds until a start that made no progress to the end is given up.
    package var timeoutSeconds: Int

    package init(
        name: String, nodeCount: Int, cpusPerNode: Int, memoryPerNodeMiB: Int, image: String, layersDirectory: String,
        layers: [String], binds: [Bind], programDirectory: String, account: Account, slurmSettings: [String] = [],
        timeoutSeconds: Int = 60
    ) {
        self.name = name
        self.nodeCount = nodeCount
        self.cpusPerNode = cpusPerNode
        self.memoryPerNodeMiB = memoryPerNodeMiB
        self.image = image
        self.layersDirectory = layersDirectory
        self.layers = layers
        self.binds = binds
        self.programDirectory = programDirectory
        self.account = account
        self.slurmSettings = slurmSettings
        self.timeoutSeconds = timeoutSeconds
    }

    /// One directory of the host at `destination` in the nodes.
    package struct Bind: Equatable, Sendable {
        package var source: String
        package var destination: String
        package init(source: String, destination: String) {
            self.source = source
            self.destination = destination
        }
    }

    /// Who the user is inside: daemons and jobs run under this one account.
    package struct Account: Equatable, Sendable {
        package var user: String
        package var uid: UInt32
        package var group: String
        package var gid: UInt32
        package var home: String
        package init(user: String, uid: UInt32, group: String, gid: UInt32, home: String) {
            self.user = user
            self.uid = uid
            self.group = group
            self.gid = gid
            self.home = home
        }
    }

    /// The controller first, then the compute nodes.
    package var nodes: [ClusterNode] {
        (0...nodeCount).map { ClusterNode(index: $0) }
    }

    package static let maximumNodeCount = 1000
}

/// One node: its place in the cluster fixes its name and address. Clusters have
/// bridges of their own, so the same addresses in all of them never meet.
package struct ClusterNode: Equatable, Sendable {
    /// 0 is the controller.
    package var index: Int
    package init(index: Int) { self.index = index }
    package var isController: Bool { index == 0 }
    /// The controller's second name: where one logs in.
    package static let controllerAlias = "login"
    package var name: String { index == 0 ? "ctl" : "n\(index)" }
    /// In 10.9.0.0/16, from 10.9.0.1 up.
    package var address: [UInt8] { [10, 9, UInt8(index / 250), UInt8(index % 250 + 1)] }
    package var addressText: String { address.map { "\($0)" }.joined(separator: ".") }
    package static let prefixLength: UInt8 = 16
}

/// The daemons of a node.
package enum ClusterService: UInt8, CaseIterable, Sendable {
    case munged = 1
    case slurmctld = 2
    case slurmd = 3
    case qmaster = 4
    case execd = 5
    case collector = 6
    case negotiator = 7
    case schedd = 8
    case startd = 9

    package var name: String { prefix + "\(self)" }
    /// Where the image must have it.
    package var program: String {
        (scheduler == .gridengine ? GridEngineConfiguration.programs : "/usr/sbin") + "/" + name
    }
    /// Whose it is.
    var scheduler: ClusterScheduler {
        switch self {
        case .munged, .slurmctld, .slurmd: .slurm
        case .qmaster, .execd: .gridengine
        case .collector, .negotiator, .schedd, .startd: .htcondor
        }
    }
    private var prefix: String {
        switch scheduler {
        case .slurm: ""
        case .gridengine: "sge_"
        case .htcondor: "condor_"
        }
    }
}
