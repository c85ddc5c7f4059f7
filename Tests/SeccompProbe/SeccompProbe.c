#define _GNU_SOURCE
#include "SeccompProbe.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static long call_i386(const struct probe_call *call) {
#ifdef __x86_64__
    long result;
    __asm__ volatile("int $0x80"
                     : "=a"(result)
                     : "a"(call->number), "b"(call->arguments[0]), "c"(call->arguments[1]),
                       "d"(call->arguments[2]), "S"(call->arguments[3]), "D"(call->arguments[4])
                     : "memory", "r8", "r9", "r10", "r11");
    return result;
#else
    (void)call;
    return -ENOSYS;
#endif
}

static void enter(int (*install)(void), int times) {
    alarm(30);
    prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
    for (int i = 0; install && i < times; i++) {
        int code = install();
        if (code) _exit(code & 0x7f);
    }
}

/// Waits for `child`; its exit code as 1000 + code.
static int finish(pid_t child) {
    int status;
    while (waitpid(child, &status, 0) < 0 && errno == EINTR) {}
    if (WIFSIGNALED(status)) return WTERMSIG(status);
    return WEXITSTATUS(status) ? 1000 + WEXITSTATUS(status) : 0;
}

static void *shared_memory(size_t bytes) {
    void *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    return memory == MAP_FAILED ? NULL : memory;
}

int probe_calls(int (*install)(void), int times, struct probe_call *calls, int count) {
    size_t bytes = sizeof *calls * (size_t)count;
    struct probe_call *shared = shared_memory(bytes);
    if (!shared) return -1;
    memcpy(shared, calls, bytes);
    pid_t child = fork();
    if (child == 0) {
        enter(install, times);
        for (int i = 0; i < count; i++) {
            struct probe_call *c = &shared[i];
            if (c->through_i386) {
                c->result = call_i386(c);
            } else {
                c->result = syscall(c->number, c->arguments[0], c->arguments[1], c->arguments[2],
                                    c->arguments[3], c->arguments[4], c->arguments[5]);
                if (c->result == -1) c->result = -errno;
            }
        }
        _exit(0);
    }
    int end = child < 0 ? -1 : finish(child);
    memcpy(calls, shared, bytes);
    munmap(shared, bytes);
    return end;
}

static void *thread(void *argument) { return argument; }

static int run(int (*body)(void)) {
    pid_t child = fork();
    if (child == 0) _exit(body());
    return child < 0 || finish(child) != 0;
}
static int executes(void) {
    char *arguments[] = {"true", NULL};
    execv("/bin/true", arguments);
    return 1;
}
static int traces(void) { return ptrace(PTRACE_TRACEME, 0, 0, 0) != 0; }
static int makes_namespace(void) {
    if (unshare(CLONE_NEWUSER) != 0 || unshare(CLONE_NEWNS) != 0) return 1;
    if (mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) != 0) return 1;
    if (mount("tmpfs", "/tmp", "tmpfs", 0, NULL) != 0) return 1;
    int tree = (int)syscall(428 /* open_tree */, AT_FDCWD, "/tmp", 1 /* OPEN_TREE_CLONE */);
    if (tree < 0) return 1;
    return chdir("/tmp") != 0 || syscall(SYS_pivot_root, ".", ".") != 0;
}
static int filters_more(void) {
    struct sock_filter allow = {0x06, 0, 0, 0x7fff0000};
    struct sock_fprog program = {1, &allow};
    return syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &program) != 0;
}

static long reads_sibling(void) {
    static volatile long word = 42;
    pid_t target = fork();
    if (target == 0) {
        pause();
        _exit(0);
    }
    long copy = 0;
    struct iovec local = {&copy, sizeof copy}, remote = {(void *)&word, sizeof word};
    pid_t reader = fork();
    if (reader == 0) _exit(process_vm_readv(target, &local, 1, &remote, 1, 0) != sizeof copy || copy != 42);
    int bad = reader < 0 || finish(reader) != 0;
    kill(target, SIGKILL);
    finish(target);
    return bad;
}

static long ordinary(void) {
    long failed = 0;
    if (run(executes)) failed |= 1;
    void *page = mmap(NULL, 4096, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (page == MAP_FAILED) failed |= 2;
    if (run(traces)) failed |= 4;
    if (reads_sibling()) failed |= 8;
    cpu_set_t set;
    if (sched_getaffinity(0, sizeof set, &set) != 0 || sched_setaffinity(0, sizeof set, &set) != 0) failed |= 16;
    pthread_t id;
    if (pthread_create(&id, NULL, thread, NULL) != 0 || pthread_join(id, NULL) != 0) failed |= 32;
    if (run(makes_namespace)) failed |= 64;
    if (run(filters_more)) failed |= 128;
    // ENOSYS: a kernel without NUMA, filter or not.
    long bound = syscall(SYS_mbind, page, 4096, 0 /* MPOL_DEFAULT */, NULL, 0, 0);
    if (bound != 0 && errno != ENOSYS) failed |= 256;
    bound = syscall(SYS_set_mempolicy, 0, NULL, 0);
    if (bound != 0 && errno != ENOSYS) failed |= 256;
    return failed;
}

long probe_ordinary(int (*install)(void)) {
    long *failed = shared_memory(sizeof *failed);
    if (!failed) return -1;
    *failed = -1;
    pid_t child = fork();
    if (child == 0) {
        enter(install, 1);
        *failed = ordinary();
        _exit(0);
    }
    if (child > 0) finish(child);
    long result = *failed;
    munmap(failed, sizeof *failed);
    return result;
}

double probe_nanoseconds(int (*install)(void), long number, long rounds) {
    double *spent = shared_memory(sizeof *spent);
    if (!spent) return -1;
    *spent = -1;
    pid_t child = fork();
    if (child == 0) {
        enter(install, 1);
        struct timespec begin, end;
        clock_gettime(CLOCK_MONOTONIC, &begin);
        for (long i = 0; i < rounds; i++) syscall(number, -1, 0, 0, 0, 0, 0);
        clock_gettime(CLOCK_MONOTONIC, &end);
        *spent = ((double)(end.tv_sec - begin.tv_sec) * 1e9 + (double)(end.tv_nsec - begin.tv_nsec)) / (double)rounds;
        _exit(0);
    }
    if (child > 0) finish(child);
    double result = *spent;
    munmap(spent, sizeof *spent);
    return result;
}

int probe_terminal_injection(int (*install)(void), unsigned long high) {
    int *result = shared_memory(sizeof *result);
    if (!result) return -1000;
    *result = -1000;
    pid_t child = fork();
    if (child == 0) {
        setsid();
        int master = posix_openpt(O_RDWR | O_NOCTTY);
        char name[64];
        if (master < 0 || grantpt(master) != 0 || unlockpt(master) != 0 ||
            ptsname_r(master, name, sizeof name) != 0)
            _exit(1);
        int terminal = open(name, O_RDWR);  // becomes the controlling terminal
        if (terminal < 0) _exit(1);
        enter(install, 1);
        long done = syscall(SYS_ioctl, terminal, (high << 32) | TIOCSTI, "x");
        *result = done == 0 ? 0 : -errno;
        _exit(0);
    }
    if (child > 0) finish(child);
    int value = *result;
    munmap(result, sizeof *result);
    return value;
}
