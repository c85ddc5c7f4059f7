// The steps of `trireme run` for a prepared two-layer image, and nothing else:
// what the kernel costs. Every argument is fixed at the call; nothing is parsed.
//
//   floor STORE UPPER-LAYER LOWER-LAYER PATH-OF-COMMAND [ARG…]
//   floor join KEY PATH-OF-COMMAND [ARG…]
//
// The second form joins the container whose agent listens on the abstract socket trireme/KEY.
//
// Build: cc -O2 -static floor.c -o floor
// With -DFILTER='"words.h"' it is the sealed floor: it also does what a container that is on by
// default must do and a bare one need not: no set-id bit on any mount, root's powers locked away,
// and the filter of system calls (words.h: the launcher's own program, struct sock_filter as numbers).
// What `trireme run` still does beyond it: look at open descriptors, at the host's own name in
// /etc/hosts, at the home, and search the command in PATH.
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#ifdef FILTER
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <linux/securebits.h>
#endif
#include <linux/mount.h>
#include <sched.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <unistd.h>

#define CHECK(step, call)                                                                  \
    do {                                                                                   \
        if ((call) < 0) {                                                                  \
            fprintf(stderr, "floor: %s: %s\n", step, strerror(errno));                     \
            return 125;                                                                    \
        }                                                                                  \
    } while (0)

static int put(const char *path, const char *text) {
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    if (fd < 0 || write(fd, text, strlen(text)) < 0) return -1;
    return close(fd);
}

// What the application must not have; then the application.
static int seal(char **command) {
    CHECK("no_new_privs", prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0));
#ifdef FILTER
    CHECK("securebits", prctl(PR_SET_SECUREBITS, SECBIT_NOROOT | SECBIT_NOROOT_LOCKED | SECBIT_NO_SETUID_FIXUP
                                  | SECBIT_NO_SETUID_FIXUP_LOCKED | SECBIT_KEEP_CAPS_LOCKED
                                  | SECBIT_NO_CAP_AMBIENT_RAISE | SECBIT_NO_CAP_AMBIENT_RAISE_LOCKED));
#endif
    for (int i = 0; prctl(PR_CAPBSET_DROP, i, 0, 0, 0) == 0;) i++;
    CHECK("ambient", prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0));
    struct __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, 0};
    struct __user_cap_data_struct data[2] = {{0, 0, 0}, {0, 0, 0}};
    CHECK("capset", syscall(SYS_capset, &header, data));
#ifdef FILTER
    static unsigned long long words[] = {
#include FILTER
    };
    struct sock_fprog program = {sizeof words / sizeof *words, (struct sock_filter *)words};
    CHECK("seccomp", syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_SPEC_ALLOW, &program));
#endif
    execv(command[0], command);
    fprintf(stderr, "floor: %s: %s\n", command[0], strerror(errno));
    return 127;
}

static int join(const char *key, char **command) {
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    struct ucred peer;
    socklen_t size = sizeof peer;
    int length = snprintf(address.sun_path + 1, sizeof address.sun_path - 1, "trireme/%s", key);
    int agent = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    CHECK("connect", connect(agent, (struct sockaddr *)&address,
                             (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + (size_t)length)));
    CHECK("peer", getsockopt(agent, SOL_SOCKET, SO_PEERCRED, &peer, &size));
    int process = (int)syscall(SYS_pidfd_open, peer.pid, 0);
    CHECK("pidfd_open", process);
    CHECK("setns", setns(process, CLONE_NEWUSER | CLONE_NEWNS));
    close(process);
    close(agent);
    return seal(command);
}

int main(int argc, char **argv) {
    if (argc > 3 && strcmp(argv[1], "join") == 0) return join(argv[2], argv + 3);
    if (argc < 5) return 125;
    char buffer[8192], directory[4096], map[64];
    const char *home = getenv("HOME");
    // The plan, beside the prepared layer, is read but not looked at.
    snprintf(buffer, sizeof buffer, "%s/%s/../plan", argv[1], argv[2]);
    int plan = open(buffer, O_RDONLY | O_CLOEXEC);
    CHECK("plan", plan);
    CHECK("plan", read(plan, buffer, sizeof buffer));
    close(plan);
    if (!getcwd(directory, sizeof directory)) return 125;

    unsigned uid = geteuid(), gid = getegid();
    CHECK("unshare", unshare(CLONE_NEWUSER | CLONE_NEWNS));
    CHECK("setgroups", put("/proc/self/setgroups", "deny"));
    snprintf(map, sizeof map, "%u %u 1", uid, uid);
    CHECK("uid_map", put("/proc/self/uid_map", map));
    snprintf(map, sizeof map, "%u %u 1", gid, gid);
    CHECK("gid_map", put("/proc/self/gid_map", map));

    const char *paths[] = {"/proc", "/sys", "/dev", "/tmp", "/etc/hosts", "/etc/resolv.conf",
                           "/etc/hostname", "/etc/localtime", home};
    int trees[9];
    for (int i = 0; i < 9; i++) {
        struct stat status;
        trees[i] = (int)syscall(SYS_open_tree, AT_FDCWD, paths[i],
                                OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_RECURSIVE);
        if (trees[i] < 0 && errno == ENOENT) continue;
        CHECK(paths[i], trees[i]);
        CHECK(paths[i], fstat(trees[i], &status));
    }

    CHECK("store", chdir(argv[1]));
    snprintf(buffer, sizeof buffer, "userxattr,lowerdir=%s:%s", argv[2], argv[3]);
    CHECK("overlay", mount("floor", "/sys", "overlay", MS_RDONLY | MS_NOSUID | MS_NODEV, buffer));
    CHECK("root", chdir("/sys"));
    CHECK("pivot_root", syscall(SYS_pivot_root, ".", "."));
    CHECK("umount", umount2(".", MNT_DETACH));
    for (int i = 0; i < 9; i++)
        if (trees[i] >= 0)
            CHECK(paths[i],
                  syscall(SYS_move_mount, trees[i], "", AT_FDCWD, paths[i], MOVE_MOUNT_F_EMPTY_PATH));
    CHECK("directory", chdir(directory));

#ifdef FILTER
    struct mount_attr attributes = {.attr_set = MOUNT_ATTR_NOSUID};
    CHECK("nosuid", syscall(SYS_mount_setattr, AT_FDCWD, "/", AT_RECURSIVE, &attributes, sizeof attributes));
#endif
    return seal(argv + 4);
}
