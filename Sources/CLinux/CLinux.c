#define _GNU_SOURCE
#include "CLinux.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <linux/filter.h>
#include <linux/openat2.h>
#include <linux/sched.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/inotify.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <unistd.h>

// Numbers newer than the oldest C library we build on; the kernel's table is
// the same on every architecture for calls after 424 (asm-generic/unistd.h).
#ifndef SYS_open_tree
#define SYS_open_tree 428
#define SYS_move_mount 429
#define SYS_fsopen 430
#define SYS_fsconfig 431
#define SYS_fsmount 432
#endif
#ifndef SYS_pidfd_open
#define SYS_pidfd_open 434
#endif
#ifndef SYS_clone3
#define SYS_clone3 435
#endif
#ifndef SYS_close_range
#define SYS_close_range 436
#endif
#ifndef SYS_openat2
#define SYS_openat2 437
#endif
#ifndef SYS_mount_setattr
#define SYS_mount_setattr 442
#endif

int linux_unshare(int flags) { return unshare(flags); }
int linux_setns(int fd, int flags) { return setns(fd, flags); }

pid_t linux_clone(uint64_t flags, int *pidfd) {
    struct clone_args args;
    memset(&args, 0, sizeof args);
    args.flags = flags | (pidfd ? CLONE_PIDFD : 0);
    args.pidfd = (uint64_t)(uintptr_t)pidfd;
    // The kernel refuses an exit signal with CLONE_PARENT: the sibling has its maker's.
    args.exit_signal = flags & CLONE_PARENT ? 0 : SIGCHLD;
    return (pid_t)syscall(SYS_clone3, &args, sizeof args);
}

int linux_pidfd_open(pid_t pid, unsigned flags) { return (int)syscall(SYS_pidfd_open, pid, flags); }
int linux_pidfd_send_signal(int pidfd, int signal) {
    return (int)syscall(SYS_pidfd_send_signal, pidfd, signal, NULL, 0);
}
int linux_prctl(int option, unsigned long a2, unsigned long a3, unsigned long a4, unsigned long a5) {
    return prctl(option, a2, a3, a4, a5);
}
int linux_close_range(unsigned first, unsigned last, unsigned flags) {
    return (int)syscall(SYS_close_range, first, last, flags);
}
int linux_execveat(int dirfd, const char *path, char *const argv[], char *const envp[], int flags) {
    return (int)syscall(SYS_execveat, dirfd, path, argv, envp, flags);
}
int linux_sched_setaffinity(pid_t pid, size_t bytes, const void *mask) {
    return (int)syscall(SYS_sched_setaffinity, pid, bytes, mask);
}
int linux_sched_getaffinity(pid_t pid, size_t bytes, void *mask) {
    return (int)syscall(SYS_sched_getaffinity, pid, bytes, mask);
}
long linux_process_vm_readv(pid_t pid, void *to, size_t bytes, uint64_t from) {
    struct iovec local = {to, bytes}, remote = {(void *)(uintptr_t)from, bytes};
    return process_vm_readv(pid, &local, 1, &remote, 1, 0);
}
pid_t linux_fork(void) { return fork(); }
int linux_set_controlling_terminal(int fd) { return ioctl(fd, TIOCSCTTY, 0); }

int linux_status_exited(int status) { return WIFEXITED(status); }
int linux_status_exit_code(int status) { return WEXITSTATUS(status); }
int linux_status_signaled(int status) { return WIFSIGNALED(status); }
int linux_status_signal(int status) { return WTERMSIG(status); }
int linux_status_stopped(int status) { return WIFSTOPPED(status); }

int linux_capset(uint64_t capabilities) {
    struct __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, 0};
    struct __user_cap_data_struct data[2] = {{(uint32_t)capabilities, (uint32_t)capabilities, 0},
                                             {(uint32_t)(capabilities >> 32), (uint32_t)(capabilities >> 32), 0}};
    return (int)syscall(SYS_capset, &header, data);
}
int linux_capset_none(void) {
    struct __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, 0};
    struct __user_cap_data_struct data[2];
    memset(data, 0, sizeof data);
    return (int)syscall(SYS_capset, &header, data);
}
int linux_seccomp_filter_flags(const void *filter, unsigned short count, unsigned flags) {
    struct sock_fprog program = {count, (struct sock_filter *)filter};
    return (int)syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, flags, &program);
}
int linux_seccomp_filter(const void *filter, unsigned short count) {
    return linux_seccomp_filter_flags(filter, count, 0);
}

int linux_pivot_root(const char *new_root, const char *put_old) {
    return (int)syscall(SYS_pivot_root, new_root, put_old);
}
int linux_mount(const char *source, const char *target, const char *type, unsigned long flags,
                const char *data) {
    return mount(source, target, type, flags, data);
}
int linux_umount2(const char *target, int flags) { return umount2(target, flags); }
int linux_open_tree(int dirfd, const char *path, unsigned flags) {
    return (int)syscall(SYS_open_tree, dirfd, path, flags);
}
int linux_move_mount(int from, const char *from_path, int to, const char *to_path, unsigned flags) {
    return (int)syscall(SYS_move_mount, from, from_path, to, to_path, flags);
}
int linux_fsopen(const char *type, unsigned flags) { return (int)syscall(SYS_fsopen, type, flags); }
int linux_fsconfig(int fd, unsigned command, const char *key, const void *value, int aux) {
    return (int)syscall(SYS_fsconfig, fd, command, key, value, aux);
}
int linux_fsmount(int fd, unsigned flags, unsigned attributes) {
    return (int)syscall(SYS_fsmount, fd, flags, attributes);
}
int linux_mount_setattr(int dirfd, const char *path, unsigned flags, uint64_t set, uint64_t clear,
                        uint64_t propagation) {
    // struct mount_attr (mount_setattr(2)); spelled out because glibc 2.36 is the first to have it.
    struct { uint64_t set, clear, propagation, userns_fd; } attributes = {set, clear, propagation, 0};
    return (int)syscall(SYS_mount_setattr, dirfd, path, flags, &attributes, sizeof attributes);
}

int linux_openat2(int dirfd, const char *path, uint64_t flags, uint64_t mode, uint64_t resolve) {
    struct open_how how = {flags, mode, resolve};
    // EAGAIN: a rename or mount anywhere disturbed a ".."; openat2(2) asks for another try. Bounded: some 50 ms.
    int fd, tries = 10000;
    while ((fd = (int)syscall(SYS_openat2, dirfd, path, &how, sizeof how)) < 0 && errno == EAGAIN && --tries > 0) {}
    return fd;
}
int linux_pipe2(int ends[2], int flags) { return pipe2(ends, flags); }
int linux_memfd_create(const char *name, unsigned flags) { return memfd_create(name, flags); }
int linux_add_seals(int fd, int seals) { return fcntl(fd, F_ADD_SEALS, seals); }
int linux_syncfs(int fd) { return syncfs(fd); }

int linux_renameat2(int from, const char *from_path, int to, const char *to_path, unsigned flags) {
    return (int)syscall(SYS_renameat2, from, from_path, to, to_path, flags);
}
ssize_t linux_copy_file_range(int in, int64_t *in_offset, int out, int64_t *out_offset, size_t bytes) {
    return copy_file_range(in, in_offset, out, out_offset, bytes, 0);
}
int linux_mknodat(int dirfd, const char *path, unsigned mode, unsigned major, unsigned minor) {
    return mknodat(dirfd, path, mode, makedev(major, minor));
}
int linux_lsetxattr(const char *path, const char *name, const void *value, size_t bytes, int flags) {
    return lsetxattr(path, name, value, bytes, flags);
}
int linux_fsetxattr(int fd, const char *name, const void *value, size_t bytes, int flags) {
    return fsetxattr(fd, name, value, bytes, flags);
}
ssize_t linux_lgetxattr(const char *path, const char *name, void *value, size_t bytes) {
    return lgetxattr(path, name, value, bytes);
}
ssize_t linux_fgetxattr(int fd, const char *name, void *value, size_t bytes) {
    return fgetxattr(fd, name, value, bytes);
}
ssize_t linux_flistxattr(int fd, char *names, size_t bytes) { return flistxattr(fd, names, bytes); }
ssize_t linux_getdents64(int fd, void *buffer, size_t bytes) {
    return syscall(SYS_getdents64, fd, buffer, bytes);
}
int linux_fcntl_int(int fd, int command, long argument) { return fcntl(fd, command, argument); }
long linux_filesystem_magic(int fd) {
    struct statfs status;
    return fstatfs(fd, &status) == 0 ? (long)status.f_type : -1;
}
int linux_ioctl_int(int fd, unsigned long request, long argument) { return ioctl(fd, request, argument); }
int linux_ioctl_pointer(int fd, unsigned long request, void *argument) {
    return ioctl(fd, request, argument);
}

// The kernel's signal set is 64 bits: bit N-1 stands for signal N (signal(7)).
int linux_signalfd(uint64_t signal_mask, int flags) {
    return (int)syscall(SYS_signalfd4, -1, &signal_mask, sizeof signal_mask, flags);
}
int linux_sigprocmask(int how, uint64_t signal_mask, uint64_t *old) {
    return (int)syscall(SYS_rt_sigprocmask, how, &signal_mask, old, sizeof signal_mask);
}
int linux_epoll_create(int flags) { return epoll_create1(flags); }
int linux_epoll_ctl(int epfd, int operation, int fd, uint32_t events, uint64_t data) {
    struct epoll_event event = {events, {.u64 = data}};
    return epoll_ctl(epfd, operation, fd, &event);
}
int linux_epoll_wait(int epfd, uint32_t *events, uint64_t *data, int count, int timeout_ms) {
    struct epoll_event ready[256];
    int n = epoll_wait(epfd, ready, count < 256 ? count : 256, timeout_ms);
    for (int i = 0; i < n; i++) {
        events[i] = ready[i].events;
        data[i] = ready[i].data.u64;
    }
    return n;
}
int linux_inotify_init(int flags) { return inotify_init1(flags); }
int linux_inotify_add_watch(int fd, const char *path, uint32_t mask) {
    return inotify_add_watch(fd, path, mask);
}

int linux_accept4(int fd, int flags) { return accept4(fd, NULL, NULL, flags); }
int linux_peer_credentials(int fd, pid_t *pid, uid_t *uid, gid_t *gid) {
    struct ucred peer;
    socklen_t size = sizeof peer;
    if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &size) != 0) return -1;
    *pid = peer.pid;
    *uid = peer.uid;
    *gid = peer.gid;
    return 0;
}

int linux_peer_pidfd(int fd) {
    int pidfd = -1;
    socklen_t size = sizeof pidfd;
    // SO_PEERPIDFD, which older headers lack.
    return getsockopt(fd, SOL_SOCKET, 77, &pidfd, &size) == 0 ? pidfd : -1;
}

// One message with descriptors attached (unix(7), SCM_RIGHTS); at most 4.
ssize_t linux_send_descriptors(int fd, const void *bytes, size_t count, const int *fds, int fd_count) {
    union { struct cmsghdr header; char space[CMSG_SPACE(4 * sizeof(int))]; } control;
    struct iovec part = {(void *)bytes, count};
    size_t size = (size_t)fd_count * sizeof(int);
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = &control,
                             .msg_controllen = CMSG_SPACE(size)};
    memset(&control, 0, sizeof control);
    control.header.cmsg_level = SOL_SOCKET;
    control.header.cmsg_type = SCM_RIGHTS;
    control.header.cmsg_len = CMSG_LEN(size);
    memcpy(CMSG_DATA(&control.header), fds, size);
    return sendmsg(fd, &message, MSG_NOSIGNAL);
}
ssize_t linux_receive_descriptors(int fd, void *bytes, size_t count, int *fds, int *fd_count) {
    union { struct cmsghdr header; char space[CMSG_SPACE(4 * sizeof(int))]; } control;
    struct iovec part = {bytes, count};
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = &control,
                             .msg_controllen = sizeof control};
    ssize_t n = recvmsg(fd, &message, MSG_CMSG_CLOEXEC);
    *fd_count = 0;
    if (n < 0) return n;
    for (struct cmsghdr *h = CMSG_FIRSTHDR(&message); h; h = CMSG_NXTHDR(&message, h)) {
        if (h->cmsg_level != SOL_SOCKET || h->cmsg_type != SCM_RIGHTS) continue;
        *fd_count = (int)((h->cmsg_len - CMSG_LEN(0)) / sizeof(int));
        memcpy(fds, CMSG_DATA(h), (size_t)*fd_count * sizeof(int));
    }
    return n;
}

char **linux_environ(void) { return environ; }
