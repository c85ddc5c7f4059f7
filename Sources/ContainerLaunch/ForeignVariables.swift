/// Variables of docker, apptainer and Singularity that ask for something, and what becomes of each here.
///
/// apptainer reads `APPTAINER_NAME` and `SINGULARITY_NAME` for its options (its user guide, "Environment Variables");
/// docker's are in docker(1), "Environment variables". One is honoured where it means the same here and opens nothing
/// to anyone: a switch that fails where it cannot be had (`--nv`), and a password that names no host, are not.
package enum ForeignVariables {
    package enum Tool: Sendable { case apptainer, docker }

    package enum Answer: Sendable {
        /// It does here what it does there.
        case honoured
        /// `run`, `exec` and `shell` name it, once.
        case launch
        /// `pull` and `push` name it, once.
        case transfer
        /// What it asks for holds anyway, or there is nothing here that it could change.
        case holds
    }

    /// How its value is read.
    package enum Option: Sendable {
        case text, flag
        /// Where a daemon is: only one on another machine is missed here.
        case elsewhere
    }

    package struct Row: Sendable {
        package let name: StaticString
        package let tool: Tool
        package let answer: Answer
        package let option: Option
        /// What does it here.
        package let ours: StaticString
        var isFlag: Bool { option == .flag }

        init(_ tool: Tool, _ name: StaticString, _ answer: Answer, _ option: Option, _ ours: StaticString) {
            self.name = name
            self.tool = tool
            self.answer = answer
            self.option = option
            self.ours = ours
        }
    }

    /// Made where it is asked for: a plain start asks for none.
    package static var table: [Row] {
        [
            Row(.apptainer, "BIND", .honoured, .text, "-B; TRIREME_BIND wins"),
            Row(.apptainer, "BINDPATH", .honoured, .text, "-B; TRIREME_BIND wins"),
            Row(.apptainer, "CLEANENV", .honoured, .flag, "--clean-env"),
            Row(.apptainer, "WRITABLE_TMPFS", .honoured, .flag, "--writable-tmpfs"),
            Row(.apptainer, "APP", .honoured, .text, "--app NAME"),
            Row(.apptainer, "APPNAME", .honoured, .text, "--app NAME"),
            Row(.apptainer, "SHELL", .honoured, .text, "of images that apptainer built"),
            Row(.apptainer, "NV", .launch, .flag, "--nv"),
            Row(.apptainer, "NVCCLI", .launch, .flag, "--nv"),
            Row(.apptainer, "ROCM", .launch, .flag, "--rocm"),
            Row(.apptainer, "CONTAIN", .launch, .flag, "--contain"),
            Row(.apptainer, "CONTAINALL", .launch, .flag, "--containall"),
            Row(.apptainer, "COMPAT", .launch, .flag, "--compat"),
            Row(.apptainer, "NO_HOME", .launch, .flag, "--no-home, and the current directory goes with it"),
            Row(.apptainer, "NO_MOUNT", .launch, .text, "--home none, --tmp private"),
            Row(.apptainer, "HOME", .launch, .text, "--home SRC:DST"),
            Row(.apptainer, "WORKDIR", .launch, .text, "--tmp private"),
            Row(.apptainer, "SCRATCH", .launch, .text, "--tmpfs DIR"),
            Row(.apptainer, "SCRATCHDIR", .launch, .text, "--tmpfs DIR"),
            Row(.apptainer, "OVERLAY", .launch, .text, "--overlay DIR"),
            Row(.apptainer, "OVERLAYIMAGE", .launch, .text, "--overlay DIR"),
            Row(.apptainer, "WRITABLE", .launch, .flag, "--writable-tmpfs, or --overlay DIR to keep changes"),
            Row(.apptainer, "MOUNT", .launch, .text, "--mount"),
            Row(.apptainer, "CWD", .launch, .text, "-w DIR"),
            Row(.apptainer, "TARGET_CWD", .launch, .text, "-w DIR"),
            Row(.apptainer, "PWD", .launch, .text, "-w DIR"),
            Row(.apptainer, "TARGET_PWD", .launch, .text, "-w DIR"),
            Row(.apptainer, "ENV", .launch, .text, "-e NAME=VALUE"),
            Row(.apptainer, "ENV_FILE", .launch, .text, "--env-file FILE"),
            Row(.apptainer, "FAKEROOT", .launch, .flag, "--fakeroot"),
            Row(.apptainer, "HOSTNAME", .launch, .text, "--hostname NAME"),
            Row(.apptainer, "PID", .launch, .flag, "--unshare pid"),
            Row(.apptainer, "UNSHARE_PID", .launch, .flag, "--unshare pid"),
            Row(.apptainer, "IPC", .launch, .flag, "--unshare ipc"),
            Row(.apptainer, "UNSHARE_IPC", .launch, .flag, "--unshare ipc"),
            Row(.apptainer, "UTS", .launch, .flag, "--unshare uts"),
            Row(.apptainer, "UNSHARE_UTS", .launch, .flag, "--unshare uts"),
            Row(.apptainer, "NET", .launch, .flag, "--network none"),
            Row(.apptainer, "UNSHARE_NET", .launch, .flag, "--network none"),
            Row(.apptainer, "NETWORK", .launch, .text, "--network host|none|job"),
            Row(.apptainer, "DNS", .launch, .text, "-v FILE:/etc/resolv.conf"),
            Row(.apptainer, "SECURITY", .launch, .text, "a filter is on: --seccomp"),
            Row(.apptainer, "APPLY_CGROUPS", .launch, .text, "--cpus, --memory, --pids-limit"),
            Row(.apptainer, "CPUS", .launch, .text, "--cpus N"),
            Row(.apptainer, "CPUSET_CPUS", .launch, .text, "--cpuset LIST"),
            Row(.apptainer, "MEMORY", .launch, .text, "--memory SIZE"),
            Row(.apptainer, "PIDS_LIMIT", .launch, .text, "--pids-limit N"),
            Row(.apptainer, "CONTAINLIBS", .launch, .text, "-B FILE"),
            Row(.apptainer, "FUSESPEC", .launch, .text, "mount it on the host, then -B DIR"),
            Row(.apptainer, "ADD_CAPS", .launch, .text, "none: nobody has rights here that the caller lacks"),
            Row(.apptainer, "KEEP_PRIVS", .launch, .flag, "none: nobody has rights here that the caller lacks"),
            Row(.apptainer, "ALLOW_SETUID", .launch, .flag, "none: nobody has rights here that the caller lacks"),
            Row(.apptainer, "CACHEDIR", .transfer, .text, "TRIREME_STORE=DIR"),
            Row(.apptainer, "TMPDIR", .transfer, .text, "TRIREME_TMPDIR=DIR"),
            Row(.apptainer, "NOHTTPS", .transfer, .flag, "--insecure"),
            Row(.apptainer, "DOCKER_USERNAME", .transfer, .text, "trireme login HOST"),
            Row(.apptainer, "DOCKER_PASSWORD", .transfer, .text, "trireme login HOST"),
            Row(.apptainer, "USERNS", .holds, .flag, "every container has a user namespace"),
            Row(.apptainer, "UNSHARE_USERNS", .holds, .flag, "every container has a user namespace"),
            Row(.apptainer, "NO_PRIVS", .holds, .flag, "so it is"),
            Row(.apptainer, "DROP_CAPS", .holds, .text, "so it is"),
            Row(.apptainer, "NO_PID", .holds, .flag, "the default"),
            Row(.apptainer, "NOSHIMINIT", .holds, .flag, "the default; --init"),
            Row(.apptainer, "NO_NV", .holds, .flag, "the default"),
            Row(.apptainer, "NV_OFF", .holds, .flag, "the default"),
            Row(.apptainer, "NO_ROCM", .holds, .flag, "the default"),
            Row(.apptainer, "ROCM_OFF", .holds, .flag, "the default"),
            Row(.apptainer, "DISABLE_CACHE", .holds, .flag, "there is no cache beside the store"),
            Row(.docker, "CONFIG", .honoured, .text, "logins of pull, push, login"),
            Row(.docker, "AUTH_CONFIG", .honoured, .text, "logins of pull and push"),
            Row(.docker, "DEFAULT_PLATFORM", .honoured, .text, "--platform of pull"),
            Row(.docker, "HOST", .launch, .elsewhere, "there is no daemon: containers start on this machine"),
            Row(.docker, "CONTEXT", .launch, .elsewhere, "there is no daemon: containers start on this machine"),
            Row(.docker, "CONTENT_TRUST", .transfer, .flag, "a policy: trireme explain image-unsigned"),
            Row(.docker, "TLS_VERIFY", .holds, .text, "of the way to a daemon"),
            Row(.docker, "CERT_PATH", .holds, .text, "of the way to a daemon"),
            Row(.docker, "API_VERSION", .holds, .text, "of the way to a daemon"),
            Row(.docker, "BUILDKIT", .holds, .text, "trireme builds no images"),
        ]
    }
}
