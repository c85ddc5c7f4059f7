// System calls that Swift cannot make: variadic, GNU-only or absent from glibc's
// headers as Swift imports them. Every function translates its arguments and
// nothing else; each returns what the kernel returns, with errno set on -1.
// The number in brackets is the manual section of the call behind it.
#ifndef CLINUX_H
#define CLINUX_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

// Namespaces and processes.
int linux_unshare(int flags);                                      // unshare(2)
int linux_setns(int fd, int flags);                                // setns(2)
/// clone3(2) without a stack, which makes it a fork(2) with namespace flags.
/// Returns 0 in the child. `pidfd` (may be NULL) receives a close-on-exec pidfd.
/// The C library's atfork handlers do not run: call it from one thread only.
pid_t linux_clone(uint64_t flags, int *pidfd);
int linux_pidfd_open(pid_t pid, unsigned flags);                   // pidfd_open(2)
int linux_pidfd_send_signal(int pidfd, int signal);                // pidfd_send_signal(2)
int linux_prctl(int option, unsigned long a2, unsigned long a3,
                unsigned long a4, unsigned long a5);               // prctl(2)
int linux_close_range(unsigned first, unsigned last, unsigned flags); // close_range(2)
int linux_execveat(int dirfd, const char *path, char *const argv[],
                   char *const envp[], int flags);                 // execveat(2)
int linux_sched_setaffinity(pid_t pid, size_t bytes, const void *mask);
int linux_sched_getaffinity(pid_t pid, size_t bytes, void *mask);  // bytes written
long linux_process_vm_readv(pid_t pid, void *to, size_t bytes, uint64_t from);
/// Forks from the C library (runs atfork handlers); Swift marks fork unavailable.
pid_t linux_fork(void);
int linux_set_controlling_terminal(int fd);                        // TIOCSCTTY

// Wait status (wait(2)); the macros are not imported into Swift.
int linux_status_exited(int status);
int linux_status_exit_code(int status);
int linux_status_signaled(int status);
int linux_status_signal(int status);
int linux_status_stopped(int status);

// Capabilities and seccomp.
/// Clears permitted, effective and inheritable of the calling thread (capset(2)).
int linux_capset_none(void);
/// capset(2): permitted and effective are `capabilities`, inheritable is empty.
int linux_capset(uint64_t capabilities);
/// `filter` is an array of `count` struct sock_filter (seccomp(2)).
int linux_seccomp_filter(const void *filter, unsigned short count);
int linux_seccomp_filter_flags(const void *filter, unsigned short count, unsigned flags);

// Mounts.
int linux_pivot_root(const char *new_root, const char *put_old);   // pivot_root(2)
int linux_mount(const char *source, const char *target, const char *type,
                unsigned long flags, const char *data);            // mount(2)
int linux_umount2(const char *target, int flags);                  // umount2(2)
int linux_open_tree(int dirfd, const char *path, unsigned flags);  // open_tree(2)
int linux_move_mount(int from, const char *from_path, int to,
                     const char *to_path, unsigned flags);         // move_mount(2)
int linux_fsopen(const char *type, unsigned flags);                // fsopen(2)
int linux_fsconfig(int fd, unsigned command, const char *key,
                   const void *value, int aux);                    // fsconfig(2)
int linux_fsmount(int fd, unsigned flags, unsigned attributes);    // fsmount(2)
int linux_mount_setattr(int dirfd, const char *path, unsigned flags,
                        uint64_t set, uint64_t clear, uint64_t propagation);

// Files.
/// openat2(2) with struct open_how filled from the arguments; tried again while others' renames disturb it.
int linux_openat2(int dirfd, const char *path, uint64_t flags, uint64_t mode,
                  uint64_t resolve);
int linux_pipe2(int ends[2], int flags);                            // pipe2(2)
int linux_memfd_create(const char *name, unsigned flags);          // memfd_create(2)
int linux_add_seals(int fd, int seals);                            // F_ADD_SEALS
int linux_syncfs(int fd);                                          // syncfs(2)
int linux_renameat2(int from, const char *from_path, int to,
                    const char *to_path, unsigned flags);          // renameat2(2)
ssize_t linux_copy_file_range(int in, int64_t *in_offset, int out,
                              int64_t *out_offset, size_t bytes);  // copy_file_range(2)
int linux_mknodat(int dirfd, const char *path, unsigned mode,
                  unsigned major, unsigned minor);                 // mknodat(2)
int linux_lsetxattr(const char *path, const char *name, const void *value,
                    size_t bytes, int flags);
int linux_fsetxattr(int fd, const char *name, const void *value, size_t bytes,
                    int flags);
ssize_t linux_lgetxattr(const char *path, const char *name, void *value,
                        size_t bytes);
ssize_t linux_fgetxattr(int fd, const char *name, void *value, size_t bytes);
ssize_t linux_flistxattr(int fd, char *names, size_t bytes);
/// getdents64(2): raw struct linux_dirent64 records.
ssize_t linux_getdents64(int fd, void *buffer, size_t bytes);
int linux_fcntl_int(int fd, int command, long argument);           // fcntl(2)
long linux_filesystem_magic(int fd);                               // fstatfs(2) f_type, -1 on error
int linux_ioctl_int(int fd, unsigned long request, long argument);
int linux_ioctl_pointer(int fd, unsigned long request, void *argument);

// Events.
int linux_signalfd(uint64_t signal_mask, int flags);               // bit N-1 is signal N
int linux_sigprocmask(int how, uint64_t signal_mask, uint64_t *old);
int linux_epoll_create(int flags);
int linux_epoll_ctl(int epfd, int operation, int fd, uint32_t events, uint64_t data);
/// Fills `events[i]` and `data[i]` for up to `count` (at most 256) ready descriptors.
int linux_epoll_wait(int epfd, uint32_t *events, uint64_t *data, int count,
                     int timeout_ms);
int linux_inotify_init(int flags);
int linux_inotify_add_watch(int fd, const char *path, uint32_t mask);

// Sockets.
int linux_accept4(int fd, int flags);                              // accept4(2), peer not asked
/// Pid, uid and gid of a connected AF_UNIX peer (SO_PEERCRED, unix(7)).
int linux_peer_credentials(int fd, pid_t *pid, uid_t *uid, gid_t *gid);
int linux_peer_pidfd(int fd);  // SO_PEERPIDFD, Linux 6.5; close-on-exec

/// sendmsg(2) with up to 4 descriptors attached.
ssize_t linux_send_descriptors(int fd, const void *bytes, size_t count,
                               const int *fds, int fd_count);
/// recvmsg(2); up to 4 attached descriptors arrive close-on-exec in `fds`.
ssize_t linux_receive_descriptors(int fd, void *bytes, size_t count, int *fds,
                                  int *fd_count);

extern char **environ;
/// The environment block of this process; Swift refuses the global as unsafe.
char **linux_environ(void);

#endif
