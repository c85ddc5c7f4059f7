// What the tests ask from inside a container. Static, so that it needs nothing of the
// image; one word per question, answers on standard output.
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <netinet/in.h>
#include <sched.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

extern char **environ;

static int say(const char *what, int result) {
    printf("%s: %s\n", what, result >= 0 ? "done" : strerrorname_np(errno));
    return 0;
}

static int cat(const char *path) {
    char buffer[65536];
    int fd = open(path, O_RDONLY);
    if (fd < 0) return printf("%s\n", strerrorname_np(errno)), 1;
    for (ssize_t n; (n = read(fd, buffer, sizeof buffer)) > 0;)
        if (write(1, buffer, (size_t)n) < 0) return 1;
    return 0;
}

static int list(const char *path) {
    DIR *directory = opendir(path);
    if (!directory) return printf("%s\n", strerrorname_np(errno)), 1;
    for (struct dirent *entry; (entry = readdir(directory));)
        if (entry->d_name[0] != '.') puts(entry->d_name);
    return 0;
}

// The classical ways out of a root directory and up in privileges; each says how it failed.
static int escape(void) {
    struct stat here, up;
    // With real privileges these would succeed, on whatever they were run on.
    if (prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) != 1) return puts("refused: not in a container"), 1;
    say("chroot", chroot("/tmp"));
    say("mknod", mknod("/tmp/.trireme-probe-mem", S_IFCHR | 0600, makedev(1, 1)));
    say("mount", mount("none", "/tmp", "tmpfs", 0, NULL));
    say("remount", mount(NULL, "/", NULL, MS_REMOUNT | MS_BIND, NULL));
    say("umount", umount2("/proc", MNT_DETACH));
    say("setgroups", setgroups(0, NULL));
    say("setuid", geteuid() == 0 ? -(errno = EPERM) : setuid(0));
    say("sethostname", sethostname("x", 1));
    for (int i = 0; i < 64; i++)
        if (chdir("..")) break;
    if (stat(".", &here) == 0 && stat("/", &up) == 0)
        printf("dotdot: %s\n", here.st_ino == up.st_ino && here.st_dev == up.st_dev ? "root" : "outside");
    return 0;
}

// Listens as a job's agent does, says so, and stays until it is killed.
static int listenAs(const char *key) {
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    int n = snprintf(address.sun_path + 1, sizeof address.sun_path - 1, "trireme/%s", key);
    if (bind(fd, (struct sockaddr *)&address, (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + (size_t)n)) != 0 ||
        listen(fd, 4096) != 0)
        return perror("listen"), 1;
    puts("listening");
    fflush(stdout);
    for (;;) pause();
}

// Touches so many bytes of memory and says so: over a limit the kernel ends it first.
static int eat(size_t bytes) {
    char *memory = malloc(bytes);
    if (!memory) return puts(strerrorname_np(errno)), 1;
    for (size_t at = 0; at < bytes; at += 4096) memory[at] = 1;
    printf("ate %zu\n", bytes);
    return memory[0] == 1;
}

// How many of `count` children can be started, and why not the next.
static int forks(int count) {
    for (int done = 0; done < count; done++) {
        pid_t pid = fork();
        if (pid < 0) return printf("%d %s\n", done, strerrorname_np(errno)), 0;
        if (pid == 0)
            for (;;) pause();
    }
    return printf("%d\n", count), 0;
}

// Burns so many milliseconds of processor time and says how many passed on the clock.
static int spin(long wanted) {
    struct timespec start, used, now;
    clock_gettime(CLOCK_MONOTONIC, &start);
    do clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &used);
    while (used.tv_sec * 1000 + used.tv_nsec / 1000000 < wanted);
    clock_gettime(CLOCK_MONOTONIC, &now);
    return printf("%ld\n", (now.tv_sec - start.tv_sec) * 1000 + (now.tv_nsec - start.tv_nsec) / 1000000), 0;
}

static int limitOf(int resource) {
    struct rlimit limit;
    if (getrlimit(resource, &limit)) return puts(strerrorname_np(errno)), 1;
    return printf("%lld %lld\n", (long long)limit.rlim_cur, (long long)limit.rlim_max), 0;
}

// Says "ready", then the number of every signal that comes, until SIGTERM has come `terms` times.
static void note(int number) { (void)number; }
static int signals(int terms) {
    sigset_t all;
    sigfillset(&all);
    sigprocmask(SIG_BLOCK, &all, NULL);
    for (int number = 1; number < 32; number++) signal(number, note);
    puts("ready");
    fflush(stdout);
    while (terms > 0) {
        int number = sigwaitinfo(&all, NULL);
        if (number < 0) continue;
        printf("%d\n", number);
        fflush(stdout);
        if (number == SIGTERM) terms--;
    }
    return 0;
}

// An orphan in a session of its own that ignores SIGTERM, then a wait for ever; both hold standard output open.
static void linger(void) {
    if (fork() == 0) {
        setsid();
        signal(SIGTERM, SIG_IGN);
        for (;;) pause();
    }
    puts("ready");
    fflush(stdout);
    for (;;) pause();
}

// What can be done with each path: absent, its type and size at most 1, and whether it can be written.
static int facts(char **paths) {
    for (; *paths; paths++) {
        struct stat status;
        char byte;
        if (lstat(*paths, &status)) {
            printf("%s: absent\n", *paths);
            continue;
        }
        int fd = open(*paths, O_RDONLY | O_NONBLOCK);
        DIR *directory = fd >= 0 && S_ISDIR(status.st_mode) ? fdopendir(fd) : NULL;
        int entries = 0;
        while (directory && entries < 3 && readdir(directory)) entries++;
        ssize_t read_ = fd < 0 || directory ? 0 : read(fd, &byte, 1);
        int out = S_ISDIR(status.st_mode) ? -1 : open(*paths, O_WRONLY | O_NONBLOCK);
        printf("%s: %s%s\n", *paths, entries > 2 || read_ > 0 ? "told" : "silent", 
               out < 0 ? "" : status.st_rdev == makedev(1, 3) ? " null" : " writable");
        if (out >= 0) close(out);
        if (directory) closedir(directory);
        else if (fd >= 0) close(fd);
    }
    return 0;
}

// One of `count` ranks that meet in `directory`: each tells where its memory is, waits for all, reads the next one's.
static volatile long cookie;
static int rank(const char *directory, int number, int count) {
    char path[4096], hidden[4096], user[64] = "", mount[64] = "";
    int alone = 0;
    cookie = 1000 + number;
    if (readlink("/proc/self/ns/user", user, 63) < 0 || readlink("/proc/self/ns/mnt", mount, 63) < 0) return 1;
    prctl(PR_SET_PTRACER, PR_SET_PTRACER_ANY, 0, 0, 0);
    snprintf(hidden, sizeof hidden, "%s/.%d", directory, number);
    snprintf(path, sizeof path, "%s/%d", directory, number);
    FILE *file = fopen(hidden, "w");
    if (!file) return perror(hidden), 1;
    fprintf(file, "%d %p", getpid(), (void *)&cookie);
    fclose(file);
    rename(hidden, path);
    for (int there = 0, waited = 0; there < count && waited < 6000; waited++) {
        while (there < count && (snprintf(path, sizeof path, "%s/%d", directory, there), access(path, F_OK) == 0)) there++;
        if (there < count) usleep(10000);
        alone = there < count;
    }
    snprintf(path, sizeof path, "%s/%d", directory, (number + 1) % count);
    file = fopen(path, "r");
    int other = 0;
    void *address = NULL;
    if (alone || !file || fscanf(file, "%d %p", &other, &address) != 2) return puts("alone"), 1;
    long theirs = 0;
    struct iovec here = {&theirs, sizeof theirs}, there = {address, sizeof theirs};
    ssize_t n = process_vm_readv(other, &here, 1, &there, 1, 0);
    printf("%s %s %s\n", user, mount, n < 0 ? strerrorname_np(errno) : theirs == 1000 + (number + 1) % count ? "read" : "wrong");
    fflush(stdout);
    // Nobody ends before the reader of its memory is through.
    snprintf(path, sizeof path, "%s/done-%d", directory, number);
    fclose(fopen(path, "w"));
    snprintf(path, sizeof path, "%s/done-%d", directory, (number + count - 1) % count);
    for (int waited = 0; access(path, F_OK) && waited < 6000; waited++) usleep(10000);
    return 0;
}

int main(int argc, char **argv) {
    const char *verb = argc > 1 ? argv[1] : "argv", *what = argc > 2 ? argv[2] : "";
    setvbuf(stdout, NULL, _IOFBF, 65536);
    if (!strcmp(verb, "argv")) {
        for (int i = 0; i < argc; i++) fwrite(argv[i], 1, strlen(argv[i]) + 1, stdout);
    } else if (!strcmp(verb, "env")) {
        for (char **e = environ; *e; e++) fwrite(*e, 1, strlen(*e) + 1, stdout);
    } else if (!strcmp(verb, "exit")) {
        return atoi(what);
    } else if (!strcmp(verb, "kill")) {
        // Test runners block signals in their threads, and their children inherit that.
        sigset_t all;
        sigfillset(&all);
        sigprocmask(SIG_UNBLOCK, &all, NULL);
        raise(atoi(what));
    } else if (!strcmp(verb, "cat")) {
        return cat(what);
    } else if (!strcmp(verb, "ls")) {
        return list(what);
    } else if (!strcmp(verb, "write")) {
        int fd = open(what, O_WRONLY | O_CREAT, 0644);
        puts(fd < 0 ? strerrorname_np(errno) : "written");
    } else if (!strcmp(verb, "fill")) {
        static char block[65536];
        int fd = open(what, O_WRONLY | O_CREAT, 0644);
        for (int i = 0; fd >= 0 && i < 1024; i++)
            if (write(fd, block, sizeof block) < (ssize_t)sizeof block && write(fd, block, 1) < 0) break;
        puts(strerrorname_np(errno));
    } else if (!strcmp(verb, "reserve")) {
        int fd = open(what, O_WRONLY | O_CREAT, 0644);
        puts(fd < 0 || argc < 4 || fallocate(fd, 0, 0, atoll(argv[3])) ? strerrorname_np(errno) : "reserved");
    } else if (!strcmp(verb, "port")) {
        struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(what))};
        int fd = socket(AF_INET, SOCK_STREAM, 0);
        puts(bind(fd, (struct sockaddr *)&address, sizeof address) ? strerrorname_np(errno) : "bound");
    } else if (!strcmp(verb, "umask")) {
        printf("%03o\n", umask(0));
    } else if (!strcmp(verb, "stat")) {
        struct stat status;
        if (stat(what, &status)) return puts(strerrorname_np(errno)), 1;
        printf("%u %u %o\n", status.st_uid, status.st_gid, status.st_mode);
    } else if (!strcmp(verb, "inode")) {
        struct stat status;
        if (stat(what, &status)) return puts(strerrorname_np(errno)), 1;
        printf("%lu %lu %lu\n", status.st_dev, status.st_ino, status.st_nlink);
    } else if (!strcmp(verb, "pwd")) {
        char path[4096];
        puts(getcwd(path, sizeof path) ? path : strerrorname_np(errno));
    } else if (!strcmp(verb, "id")) {
        printf("%u %u %u %u\n", getuid(), geteuid(), getgid(), getegid());
    } else if (!strcmp(verb, "ns")) {
        char user[64] = "", mount[64] = "";
        if (readlink("/proc/self/ns/user", user, 63) < 0 || readlink("/proc/self/ns/mnt", mount, 63) < 0) return 1;
        printf("%s %s\n", user, mount);
    } else if (!strcmp(verb, "fds")) {
        for (int fd = 0; fd < 1024; fd++)
            if (fcntl(fd, F_GETFD) >= 0) printf("%d\n", fd);
    } else if (!strcmp(verb, "escape")) {
        return escape();
    } else if (!strcmp(verb, "eat")) {
        return eat(strtoul(what, NULL, 10)) != 1;
    } else if (!strcmp(verb, "forks")) {
        return forks(atoi(what));
    } else if (!strcmp(verb, "spin")) {
        return spin(atol(what));
    } else if (!strcmp(verb, "limit")) {
        return limitOf(atoi(what));
    } else if (!strcmp(verb, "processors")) {
        cpu_set_t set;
        if (sched_getaffinity(0, sizeof set, &set)) return puts(strerrorname_np(errno)), 1;
        printf("%d\n", CPU_COUNT(&set));
    } else if (!strcmp(verb, "sleep")) {
        puts("asleep");
        fflush(stdout);
        sleep((unsigned)atoi(what));
    } else if (!strcmp(verb, "signals")) {
        return signals(atoi(what));
    } else if (!strcmp(verb, "linger")) {
        linger();
    } else if (!strcmp(verb, "stop")) {
        raise(SIGSTOP);
        puts("went on");
    } else if (!strcmp(verb, "facts")) {
        return facts(argv + 2);
    } else if (!strcmp(verb, "rank")) {
        return argc < 5 ? 2 : rank(what, atoi(argv[3]), atoi(argv[4]));
    } else if (!strcmp(verb, "listen")) {
        return listenAs(what);
    } else {
        fprintf(stderr, "probe: no such question: %s\n", verb);
        return 2;
    }
    return 0;
}
