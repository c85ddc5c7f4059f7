/// The files a Grid Engine cluster starts from: bootstrap(5), sge_conf(5), sched_conf(5), queue_conf(5),
/// sge_pe(5) and the classic spool, in which every object is a text file. Written before the daemons
/// start: asking qconf(1) afterwards costs a process for each. Pure.
package struct GridEngineConfiguration: Equatable, Sendable {
    package var user: String
    package var nodes: [String]
    package var slotsPerNode: Int

    package init(_ specification: ClusterSpecification) {
        user = specification.account.user
        nodes = specification.nodes.filter { !$0.isController }.map(\.name)
        slotsPerNode = specification.cpusPerNode
    }

    /// Where Debian has its programs.
    static let programs = "/usr/lib/gridengine"
    static let root = "/var/lib/gridengine"
    private static let common = root + "/default/common"
    private static let spool = "/var/spool/gridengine"
    private static let master = spool + "/qmaster"
    package static let queue = "all.q"
    /// The name of the one parallel environment: `-pe mpi SLOTS`.
    package static let parallelEnvironment = "mpi"

    /// Those of a user, each a wrapper that finds the cell.
    static let commands = ["/usr/bin/qconf", "/usr/bin/qrsh", "/usr/bin/qstat", "/usr/bin/qsub"]

    /// Ports of sge_qmaster and sge_execd, as IANA lists them.
    package static let controllerPort: UInt16 = 6444
    package static let nodePort: UInt16 = 6445

    /// What the daemons and our own questions need to know. SGE_ND keeps a daemon from going to the
    /// background (sge_qmaster(8)): the node's init waits for it.
    static let environment = ["SGE_ROOT=\(root)", "SGE_CELL=default"]
    static let daemonEnvironment = environment + ["SGE_ND=1"]

    /// The master reads complexes (named resources) and user sets from its spool; the package has them
    /// in another form, which its own program turns into this one.
    static let masterCommand = [
        "/bin/sh", "-c",
        """
        cd / && \(programs)/spooldefaults complexes /usr/share/gridengine/util/resources/centry >/dev/null &&
        \(programs)/spooldefaults usersets /usr/share/gridengine/util/resources/usersets >/dev/null &&
        exec \(programs)/sge_qmaster >/dev/null
        """,
    ]
    static let nodeCommand = [programs + "/sge_execd"]

    /// The lines of services(5) that say the ports.
    package static func services(image: String) -> String {
        let own = "sge_qmaster \(controllerPort)/tcp\nsge_execd \(nodePort)/tcp\n"
        return own + image.split(separator: "\n").filter { !$0.hasPrefix("sge_") }.map { $0 + "\n" }.joined()
    }

    /// Directories that must be there, empty or not.
    package var directories: [String] {
        let kinds = [
            "admin_hosts", "advance_reservations", "calendars", "centry", "ckpt", "cqueues", "exec_hosts", "hostgroups",
            "job_scripts", "jobs", "pe", "projects", "qinstances", "resource_quotas", "submit_hosts", "users",
            "usersets", "zombies",
        ]
        return [Self.common + "/local_conf", Self.spool + "/execd"] + kinds.map { Self.master + "/" + $0 }
    }

    /// Texts by their paths in a node.
    package var files: [(path: String, text: String)] {
        var files = [
            (Self.common + "/bootstrap", bootstrap), (Self.common + "/act_qmaster", "ctl\n"),
            (Self.common + "/configuration", Self.configuration),
            (Self.common + "/sched_configuration", Self.scheduler),
            (Self.master + "/managers", user + "\n"), (Self.master + "/operators", user + "\n"),
            (Self.master + "/pe/\(Self.parallelEnvironment)", Self.parallelEnvironmentText),
            (Self.master + "/hostgroups/@allhosts", "group_name @allhosts\nhostlist \(nodes.joined(separator: " "))\n"),
            (Self.master + "/cqueues/\(Self.queue)", queueText),
        ]
        for node in ["ctl"] + nodes {
            files.append((Self.master + "/admin_hosts/\(node)", "hostname \(node)\n"))
            files.append((Self.master + "/submit_hosts/\(node)", "hostname \(node)\n"))
        }
        for node in nodes {
            files.append((Self.master + "/exec_hosts/\(node)", Self.executionHost(node)))
            // State 1024: unknown until its daemon reports.
            files.append(
                (
                    Self.master + "/qinstances/\(Self.queue)/\(node)",
                    "qname \(Self.queue)\nhostname \(node)\nstate 1024\npending_signal 0\npending_signal_del 0\nversion 1\n"
                ))
        }
        return files.map { (path: $0.0, text: $0.1) }
    }

    /// The administrative user is the only one there is: with `none`, requests of daemons must come from root.
    private var bootstrap: String {
        """
        admin_user              \(user)
        default_domain          none
        ignore_fqdn             true
        spooling_method         classic
        spooling_lib            libspoolc
        spooling_params         \(Self.common);\(Self.master)
        binary_path             /usr/sbin
        qmaster_spool_dir       \(Self.master)
        security_mode           none
        listener_threads        2
        worker_threads          2
        scheduler_threads       1

        """
    }

    /// Differences from Debian's own defaults: anybody's uid may run jobs, nobody gets mail, a node that
    /// says nothing for half a minute is unknown.
    private static let configuration = """
        conf_name                    global
        conf_version                 0
        execd_spool_dir              \(spool)/execd
        mailer                       /bin/true
        xterm                        none
        load_sensor                  none
        prolog                       none
        epilog                       none
        shell_start_mode             unix_behavior
        login_shells                 bash,sh,ksh,csh,tcsh
        min_uid                      0
        min_gid                      0
        user_lists                   none
        xuser_lists                  none
        projects                     none
        xprojects                    none
        enforce_project              false
        enforce_user                 auto
        load_report_time             00:00:05
        max_unheard                  00:00:30
        reschedule_unknown           00:00:00
        loglevel                     log_info
        administrator_mail           none
        set_token_cmd                none
        pag_cmd                      none
        token_extend_time            none
        shepherd_cmd                 none
        qmaster_params               none
        execd_params                 none
        reporting_params             accounting=true reporting=false flush_time=00:00:01 joblog=false sharelog=00:00:00
        finished_jobs                100
        gid_range                    65400-65500
        qlogin_command               builtin
        qlogin_daemon                builtin
        rlogin_command               builtin
        rlogin_daemon                builtin
        rsh_command                  builtin
        rsh_daemon                   builtin
        max_aj_instances             2000
        max_aj_tasks                 75000
        max_u_jobs                   0
        max_jobs                     0
        auto_user_oticket            0
        auto_user_fshare             0
        auto_user_default_project    none
        auto_user_delete_time        86400

        """

    /// Scheduling every second and right after each submission and end; the default is every 15 seconds.
    /// Load is no reason to wait: it is the host's, the same on every node.
    private static let scheduler = """
        algorithm default
        schedule_interval 0:0:1
        maxujobs 0
        queue_sort_method 1
        job_load_adjustments NONE
        load_adjustment_decay_time 0:0:0
        load_formula slots
        schedd_job_info true
        flush_submit_sec 1
        flush_finish_sec 1
        params none
        reprioritize_interval 0:0:0
        halftime 168
        usage_weight_list cpu=1.000000 mem=0.000000 io=0.000000
        compensation_factor 5.000000
        weight_user 0.250000
        weight_project 0.250000
        weight_department 0.250000
        weight_job 0.250000
        weight_tickets_functional 0
        weight_tickets_share 0
        weight_tickets_override 0
        share_override_tickets TRUE
        share_functional_shares TRUE
        max_functional_jobs_to_schedule 200
        report_pjob_tickets TRUE
        max_pending_tasks_per_job 50
        halflife_decay_list none
        policy_hierarchy OFS
        weight_ticket 0.500000
        weight_waiting_time 0.278000
        weight_deadline 3600000.000000
        weight_urgency 0.500000
        weight_priority 0.000000
        max_reservation 0
        default_duration INFINITY

        """

    /// `control_slaves` lets a job start tasks on its other nodes: `qrsh -inherit`.
    private static let parallelEnvironmentText = """
        pe_name            \(parallelEnvironment)
        slots              999999
        user_lists         NONE
        xuser_lists        NONE
        start_proc_args    NONE
        stop_proc_args     NONE
        allocation_rule    $fill_up
        control_slaves     TRUE
        job_is_first_task  FALSE
        urgency_slots      min
        accounting_summary FALSE
        qsort_args         NONE

        """

    private static func executionHost(_ name: String) -> String {
        """
        hostname              \(name)
        load_scaling          NONE
        complex_values        NONE
        load_values           NONE
        processors            0
        reschedule_unknown_list NONE
        user_lists            NONE
        xuser_lists           NONE
        projects              NONE
        xprojects             NONE
        usage_scaling         NONE
        report_variables      NONE

        """
    }

    private var queueText: String {
        let plain = [
            "qname \(Self.queue)", "hostlist @allhosts", "seq_no 0", "load_thresholds NONE", "suspend_thresholds NONE",
            "nsuspend 1", "suspend_interval 00:05:00", "priority 0", "min_cpu_interval 00:05:00",
            "processors UNDEFINED", "qtype BATCH INTERACTIVE", "ckpt_list NONE", "pe_list \(Self.parallelEnvironment)",
            "rerun FALSE",
            "slots \(slotsPerNode)", "tmpdir /tmp", "shell /bin/bash",
        ]
        let none = [
            "prolog", "epilog", "starter_method", "suspend_method", "resume_method", "terminate_method", "owner_list",
            "user_lists", "xuser_lists", "subordinate_list", "complex_values", "projects", "xprojects", "calendar",
        ]
        let limits = ["rt", "cpu", "fsize", "data", "stack", "core", "rss", "vmem"].flatMap { ["s_" + $0, "h_" + $0] }
        let lines =
            plain + ["shell_start_mode unix_behavior", "notify 00:00:60", "initial_state default"]
            + none.map { $0 + " NONE" } + limits.map { $0 + " INFINITY" }
        return lines.map { $0 + "\n" }.joined()
    }
}
