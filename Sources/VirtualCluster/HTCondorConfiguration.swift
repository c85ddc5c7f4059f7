/// The configuration an HTCondor cluster starts from ("Configuration Macros" in the administrator's manual).
/// `ctl` has the collector, the negotiator and the schedd, every other node a startd; each is started by its
/// node's init, so there is no condor_master. Everything runs as the one account: daemons that are not root
/// serve one user, and their authentications name the same one. Pure.
package struct HTCondorConfiguration: Equatable, Sendable {
    package var user: String
    package var processors: Int
    package var memoryMiB: Int

    package init(_ specification: ClusterSpecification) {
        user = specification.account.user
        processors = specification.cpusPerNode
        memoryMiB = specification.memoryPerNodeMiB
    }

    package static let path = "/etc/condor/condor_config"
    package static let passwordPath = "/etc/condor/pool_password"
    private static let state = "/var/lib/condor"
    private static let run = "/run/condor"

    /// Those of a user.
    static let commands = ["condor_submit", "condor_q", "condor_rm", "condor_status"].map { "/usr/bin/" + $0 }

    static let environment = ["CONDOR_CONFIG=\(path)"]

    /// To the foreground (-f) with the log on standard error (-t), which is `trireme cluster logs`.
    /// The port is an argument, which condor_master would give.
    static func command(_ service: ClusterService) -> [String] {
        [service.program, "-f", "-t"] + (service == .collector ? ["-p", "\(collectorPort)"] : [])
    }

    private static let collectorPort = 9618

    /// Written by a daemon once it takes requests.
    static func addressPath(_ service: ClusterService) -> String { "\(run)/\(service).address" }

    static let idleQuery = ["/usr/bin/condor_status", "-af", "Name", "State", "Activity"]

    /// Directories that must be there, all the account's own.
    package static let directories = [
        "\(state)/spool", "\(state)/execute", "/var/log/condor", "/etc/condor/tokens.d",
    ]

    /// Directories below /run, which is every node's own and empty.
    static let runDirectories = [run]

    package var text: String {
        """
        # Written by trireme for this virtual cluster.
        CONDOR_HOST = ctl
        COLLECTOR_HOST = $(CONDOR_HOST):\(Self.collectorPort)
        RELEASE_DIR = /usr
        BIN = /usr/bin
        SBIN = /usr/sbin
        LIBEXEC = /usr/libexec/condor
        SHARE = /usr/share/condor
        LOCAL_DIR = \(Self.state)
        LOG = /var/log/condor
        SPOOL = \(Self.state)/spool
        EXECUTE = \(Self.state)/execute
        RUN = \(Self.run)
        LOCK = \(Self.run)
        PROCD_ADDRESS = \(Self.run)/procd
        COLLECTOR_ADDRESS_FILE = \(Self.addressPath(.collector))
        NEGOTIATOR_ADDRESS_FILE = \(Self.addressPath(.negotiator))
        SCHEDD_ADDRESS_FILE = \(Self.addressPath(.schedd))
        STARTD_ADDRESS_FILE = \(Self.addressPath(.startd))
        # One user everywhere, one file system, one key: what an account does here it does in its own name.
        UID_DOMAIN = trireme
        FILESYSTEM_DOMAIN = trireme
        TRUST_UID_DOMAIN = True
        SEC_DEFAULT_AUTHENTICATION = REQUIRED
        SEC_DEFAULT_AUTHENTICATION_METHODS = FS, PASSWORD
        SEC_CLIENT_AUTHENTICATION_METHODS = FS, PASSWORD
        # Such sessions come from a condor_master, and without one are refused by everybody else.
        SEC_USE_FAMILY_SESSION = False
        SEC_PASSWORD_FILE = \(Self.passwordPath)
        ALLOW_READ = *
        ALLOW_WRITE = *
        ALLOW_DAEMON = *
        ALLOW_NEGOTIATOR = *
        ALLOW_ADMINISTRATOR = *
        ALLOW_CLIENT = *
        USE_SHARED_PORT = False
        BIND_ALL_INTERFACES = True
        MAIL = /bin/true
        ENABLE_SSH_TO_JOB = False
        # No cgroups and no privileges inside the nodes.
        BASE_CGROUP =
        USE_PID_NAMESPACES = False
        RUNBENCHMARKS = False
        # The declared processors and memory hold, whatever the host has; one place per node.
        NUM_CPUS = \(processors)
        MEMORY = \(memoryMiB)
        NUM_SLOTS = 1
        NUM_SLOTS_TYPE_1 = 1
        SLOT_TYPE_1 = 100%
        SLOT_TYPE_1_PARTITIONABLE = False
        # A schedd that is not root's has its user in its name.
        DedicatedScheduler = "DedicatedScheduler@\(user)@ctl"
        STARTD_ATTRS = $(STARTD_ATTRS) DedicatedScheduler
        START = True
        SUSPEND = False
        CONTINUE = True
        PREEMPT = False
        KILL = False
        WANT_SUSPEND = False
        WANT_VACATE = False
        RANK = Scheduler =?= $(DedicatedScheduler)
        # Scheduling at once: the defaults let a job wait for minutes.
        NEGOTIATOR_INTERVAL = 1
        NEGOTIATOR_MIN_INTERVAL = 1
        NEGOTIATOR_CYCLE_DELAY = 1
        SCHEDD_INTERVAL = 1
        SCHEDD_MIN_INTERVAL = 1
        UPDATE_INTERVAL = 5
        POLLING_INTERVAL = 2
        KILLING_TIMEOUT = 5
        JOB_START_DELAY = 0
        UNUSED_CLAIM_TIMEOUT = 5

        """
    }
}
