// Tries to get out, or up, from inside a container, and says of each attempt how it ended:
// `NAME: done` when it worked, else the error or what it found. Static: needs nothing of the image.
//
//   escape [PID-OUTSIDE [MARKER]] | escape wait | escape cat FILE
//
// PID-OUTSIDE is a process of the same user outside; MARKER a path that exists only on the host.
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <glob.h>
#include <grp.h>
#include <net/if.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

static void say(const char *what, long result) {
    printf("%s: %s\n", what, result >= 0 ? "done" : strerrorname_np(errno));
    fflush(stdout);
}
static long opens(const char *path, int flags) {
    int fd = open(path, flags | O_CLOEXEC);
    if (fd >= 0) close(fd);
    return fd;
}
// The map of a process that has ended can be opened, and is empty.
static long reads(const char *path) {
    char byte;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? -1 : read(fd, &byte, 1);
    if (fd >= 0) close(fd);
    if (n == 0) errno = ESRCH;
    return n == 1 ? 0 : -1;
}
static int same(const char *a, const struct stat *b) {
    struct stat s;
    return stat(a, &s) == 0 && s.st_dev == b->st_dev && s.st_ino == b->st_ino;
}
/// In a child: what is done there is gone with it.
static void aside(void (*body)(void)) {
    fflush(stdout);
    pid_t child = fork();
    if (child == 0) {
        alarm(20);
        body();
        fflush(stdout);
        _exit(0);
    }
    waitpid(child, NULL, 0);
}

static void files(void) {
    say("chroot", chroot("/"));
    say("mknod", mknod("/tmp/.escape-mem", S_IFCHR | 0600, makedev(1, 1)));
    say("mount", mount("none", "/tmp", "tmpfs", 0, NULL));
    say("remount-rw", mount(NULL, "/", NULL, MS_REMOUNT | MS_BIND, NULL));
    say("umount-proc", umount2("/proc", MNT_DETACH));
    say("pivot-root", syscall(SYS_pivot_root, "/", "/"));
    say("write-root", opens("/bin/.written", O_WRONLY | O_CREAT));
    say("write-exe", opens("/proc/self/exe", O_WRONLY));
    say("open-mem", opens("/dev/mem", O_RDONLY));
    say("open-kcore", opens("/proc/kcore", O_RDONLY));
    say("write-core-pattern", opens("/proc/sys/kernel/core_pattern", O_WRONLY));
    say("write-modprobe", opens("/proc/sys/kernel/modprobe", O_WRONLY));
    say("write-sysrq", opens("/proc/sysrq-trigger", O_WRONLY));
    say("write-uevent-helper", opens("/sys/kernel/uevent_helper", O_WRONLY));
    say("write-binfmt", opens("/proc/sys/fs/binfmt_misc/register", O_WRONLY));
    say("disk", opens("/dev/vda", O_RDONLY) >= 0 ? 0 : opens("/dev/sda", O_RDONLY));
    glob_t found = {0};
    long agents = -1;
    int code = ENOENT;
    for (int i = 0; glob("/sys/fs/cgroup/*/release_agent", 0, NULL, &found) == 0 && i < (int)found.gl_pathc; i++) {
        if (opens(found.gl_pathv[i], O_WRONLY) >= 0) agents = 0;
        code = errno;
    }
    errno = code;
    say("release-agent", agents);
}

static void privileges(void) {
    printf("no-new-privs: %d\n", prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0));
    printf("securebits: %x\n", prctl(PR_GET_SECUREBITS, 0, 0, 0, 0));
    say("setuid", geteuid() == 0 ? -(errno = EPERM) : setuid(0));
    say("setgroups", setgroups(0, NULL));
    say("sethostname", sethostname("x", 1));
    say("packet-socket", socket(AF_PACKET, SOCK_RAW, 0));
    say("raw-socket", socket(AF_INET, SOCK_RAW, 255));
}

/// With arguments that do no harm where the call is allowed: the error then is another one.
static void calls(void) {
    say("keyctl", syscall(SYS_keyctl, 0 /* GET_KEYRING_ID */, -3 /* session */, 0, 0, 0));
    say("add-key", syscall(SYS_add_key, "user", "x", "y", 1, -1));
    say("bpf", syscall(SYS_bpf, 9999, NULL, 0));
    say("io-uring", syscall(SYS_io_uring_setup, 0, NULL));
    say("userfaultfd", syscall(SYS_userfaultfd, 0xFFFFFF));
    say("kexec", syscall(SYS_kexec_load, 0, 0, NULL, 0xFFFFFFFFul));
    say("open-by-handle", syscall(SYS_open_by_handle_at, -1, NULL, 0));
    int master = posix_openpt(O_RDWR | O_NOCTTY);
    char name[64] = "";
    if (master >= 0 && grantpt(master) == 0 && unlockpt(master) == 0) ptsname_r(master, name, sizeof name);
    setsid();
    int terminal = open(name, O_RDWR);
    if (terminal >= 0) say("tiocsti", ioctl(terminal, TIOCSTI, "x"));
    else say("tiocsti-terminal", -1);
}

static void ascend(const char *what, const struct stat *root) {
    for (int i = 0; i < 64; i++)
        if (chdir("..")) break;
    printf("%s: %s\n", what, same(".", root) ? "inside" : "outside");
}

/// All capabilities, over a namespace of one's own: what was locked must stay locked.
static void nested(void) {
    struct stat root;
    stat("/", &root);
    uid_t uid = geteuid();
    if (unshare(CLONE_NEWUSER | CLONE_NEWNS) != 0) {
        say("nested-namespace", -1);
        return;
    }
    puts("nested-namespace: done");
    int fd = open("/proc/self/uid_map", O_WRONLY);
    char map[64];
    if (uid != 0) say("map-host-root", write(fd, "0 0 1\n", 6));
    snprintf(map, sizeof map, "0 %u 1\n", uid);
    if (write(fd, map, strlen(map)) < 0) say("map-self", -1);
    close(fd);
    say("nested-remount-rw", mount(NULL, "/", NULL, MS_REMOUNT | MS_BIND, NULL));
    say("nested-umount-proc", umount2("/proc", 0));
    say("nested-umount-sys", umount2("/sys", MNT_DETACH));
    say("nested-unmask-sysctl", umount2("/proc/sys", MNT_DETACH));
    say("nested-core-pattern", opens("/proc/sys/kernel/core_pattern", O_WRONLY));
    say("nested-mknod", mknod("/dev/shm/.escape-mem", S_IFCHR | 0600, makedev(1, 1)));
    say("nested-mount-block", mount("/dev/vda", "/tmp", "ext4", MS_RDONLY, NULL));
    say("nested-cgroup-v1", mount("none", "/tmp", "cgroup", 0, "memory"));
    say("nested-packet-socket", socket(AF_PACKET, SOCK_RAW, 0));
    int before = open("/", O_RDONLY | O_DIRECTORY);
    say("nested-chroot", chroot("/bin"));
    if (fchdir(before) == 0) ascend("nested-chroot-dotdot", &root);
    if (chroot(".") == 0) ascend("nested-chroot-again", &root);
}

static void descriptors(void) {
    int directories = 0, all = 0;
    for (int fd = 3; fd < 1024; fd++) {
        struct stat s;
        if (fstat(fd, &s) != 0) continue;
        all++;
        if (S_ISDIR(s.st_mode)) directories++;
    }
    printf("inherited-directories: %d\ninherited-descriptors: %d\n", directories, all);
}

static void outside(pid_t pid, const char *marker) {
    char path[4352];
    say("outside-signal", kill(pid, 0));
    say("outside-ptrace", ptrace(PTRACE_SEIZE, pid, 0, 0));
    snprintf(path, sizeof path, "/proc/%d/root/", pid);
    say("outside-root", opens(path, O_RDONLY | O_DIRECTORY));
    snprintf(path, sizeof path, "/proc/%d/cwd/", pid);
    say("outside-cwd", opens(path, O_RDONLY | O_DIRECTORY));
    snprintf(path, sizeof path, "/proc/%d/mem", pid);
    say("outside-mem", opens(path, O_RDWR));
    char byte;
    struct iovec local = {&byte, 1}, remote = {(void *)0x400000, 1};
    say("outside-vm-readv", process_vm_readv(pid, &local, 1, &remote, 1, 0));
    snprintf(path, sizeof path, "/proc/%d/ns/mnt", pid);
    int ns = open(path, O_RDONLY | O_CLOEXEC);
    say("outside-setns", ns < 0 ? -1 : setns(ns, 0));
    if (!marker) return;
    say("marker", access(marker, F_OK));
    DIR *processes = opendir("/proc");
    int reached = 0;
    for (struct dirent *e; processes && (e = readdir(processes));) {
        if (e->d_name[0] < '0' || e->d_name[0] > '9') continue;
        snprintf(path, sizeof path, "/proc/%s/root%s", e->d_name, marker);
        if (access(path, F_OK) == 0) reached++;
        snprintf(path, sizeof path, "/proc/%s/cwd/../../../../../../..%s", e->d_name, marker);
        if (access(path, F_OK) == 0) reached++;
    }
    printf("marker-through-proc: %d\n", reached);
}

static void names(void) {
    char name[256] = "", line[256], wanted[300];
    gethostname(name, sizeof name - 1);
    printf("hostname: %s\n", name);
    int resolves = 0;
    FILE *hosts = fopen("/etc/hosts", "r");
    while (hosts && fgets(line, sizeof line, hosts)) {
        snprintf(wanted, sizeof wanted, " %s", name);
        if (strstr(line, wanted)) resolves = 1;
    }
    printf("resolves: %s\n", resolves ? "yes" : "no");
    struct ifreq request = {0};
    strcpy(request.ifr_name, "lo");
    int fd = socket(AF_INET, SOCK_DGRAM, 0);
    printf("loopback: %s\n", ioctl(fd, SIOCGIFFLAGS, &request) == 0 && request.ifr_flags & IFF_UP ? "up" : "down");
    int count = 0;
    struct if_nameindex *all = if_nameindex();
    while (all && all[count].if_index) count++;
    printf("interfaces: %d\n", count);
}

/// Questions of one word.
static int answer(const char *question, const char *what) {
    if (!strcmp(question, "namespaces")) {
        const char *kinds[] = {"pid", "ipc", "uts", "net", "cgroup"};
        for (int i = 0; i < 5; i++) {
            char path[64], link[64] = "";
            snprintf(path, sizeof path, "/proc/self/ns/%s", kinds[i]);
            if (readlink(path, link, sizeof link - 1) > 0) puts(link);
        }
    } else if (!strcmp(question, "names")) {
        names();
    } else if (!strcmp(question, "exit")) {
        exit(atoi(what));
    } else if (!strcmp(question, "kill")) {
        sigset_t all;
        sigfillset(&all);
        sigprocmask(SIG_UNBLOCK, &all, NULL);
        kill(getpid(), atoi(what));
    } else if (!strcmp(question, "hold")) {
        // Test runners block signals, and their children inherit that.
        sigset_t none;
        sigemptyset(&none);
        sigprocmask(SIG_SETMASK, &none, NULL);
        puts("held");
        fflush(stdout);
        alarm(120);
        for (;;) pause();
    } else if (!strcmp(question, "ls")) {
        DIR *directory = opendir(what);
        for (struct dirent *e; directory && (e = readdir(directory));)
            if (e->d_name[0] != '.') puts(e->d_name);
    } else if (!strcmp(question, "make")) {
        struct stat s;
        int fd = open(what, O_WRONLY | O_CREAT | O_EXCL, 0644);
        if (fd >= 0 && fstat(fd, &s) == 0) printf("uid %d gid %d owner %d\n", geteuid(), getegid(), s.st_uid);
    } else {
        return 0;
    }
    return 1;
}

// What of the processes whose names begin with `start` can be had from here: `PID NAME PART: done` or the
// error for each, and how many there were.
static const char *comm(const char *process, char *name, size_t size) {
    char path[512];
    snprintf(path, sizeof path, "%s/comm", process);
    memset(name, 0, size);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0 || read(fd, name, size - 1) <= 0) name[0] = 0;
    if (fd >= 0) close(fd);
    name[strcspn(name, "\n")] = 0;
    return name;
}
// What executes another program between the question and the answer is that program by then.
static void tell(const char *process, const char *name, const char *part, long result) {
    char what[600], now[32];
    int code = errno;
    snprintf(what, sizeof what, "%s %s %s", process + 6, name, part);
    if (strcmp(comm(process, now, sizeof now), name)) result = -1, code = ESRCH;
    errno = code;
    say(what, result);
}
static void neighbours(const char *start) {
    glob_t all;
    int seen = 0;
    if (glob("/proc/[0-9]*", 0, NULL, &all)) all.gl_pathc = 0;
    for (size_t i = 0; i < all.gl_pathc; i++) {
        char path[512], name[32];
        if (strncmp(comm(all.gl_pathv[i], name, sizeof name), start, strlen(start))) continue;
        seen++;
        const char *parts[] = {"exe", "environ", "mem", "maps", "root", "cwd", "fd/0", "fd/3", "ns/mnt"};
        for (size_t k = 0; k < sizeof parts / sizeof *parts; k++) {
            snprintf(path, sizeof path, "%s/%s", all.gl_pathv[i], parts[k]);
            tell(all.gl_pathv[i], name, parts[k], strcmp(parts[k], "maps") ? opens(path, O_RDONLY) : reads(path));
        }
        snprintf(path, sizeof path, "%s/exe", all.gl_pathv[i]);
        tell(all.gl_pathv[i], name, "chmod", chmod(path, 04755));
        tell(all.gl_pathv[i], name, "ptrace", ptrace(PTRACE_SEIZE, atoi(all.gl_pathv[i] + 6), 0, 0));
    }
    printf("seen: %d\n", seen);
}

// What could change each of these files for whoever has it, too.
static void change(char **paths) {
    for (; *paths; paths++) {
        char what[600];
        struct stat about;
        snprintf(what, sizeof what, "%s chmod", *paths);
        say(what, chmod(*paths, 0600));
        snprintf(what, sizeof what, "%s chown", *paths);
        say(what, lchown(*paths, (uid_t)-1, (gid_t)-1));
        snprintf(what, sizeof what, "%s write", *paths);
        if (!stat(*paths, &about) && S_ISREG(about.st_mode)) say(what, opens(*paths, O_WRONLY | O_APPEND));
    }
}

int main(int argc, char **argv) {
    if (argc > 1 && !strcmp(argv[1], "neighbours")) return neighbours(argc > 2 ? argv[2] : "trireme"), 0;
    if (argc > 1 && !strcmp(argv[1], "change")) return change(argv + 2), 0;
    if (argc > 1 && !strcmp(argv[1], "wait")) {
        alarm(600);
        for (;;) pause();
    }
    if (argc > 1 && answer(argv[1], argc > 2 ? argv[2] : "")) return 0;
    if (argc > 2 && !strcmp(argv[1], "cat")) {
        char buffer[256];
        int fd = open(argv[2], O_RDONLY);
        ssize_t n = fd < 0 ? -1 : read(fd, buffer, sizeof buffer);
        return n < 0 || write(1, buffer, (size_t)n) != n;
    }
    // With real privileges some of this would succeed, on whatever machine it runs on.
    if (geteuid() == 0 && prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) != 1)
        return fputs("refused: run it in a container, or not as root\n", stderr), 1;
    descriptors();
    aside(files);
    privileges();
    aside(calls);
    aside(nested);
    if (argc > 1) outside(atoi(argv[1]), argc > 2 ? argv[2] : NULL);
    return 0;
}
