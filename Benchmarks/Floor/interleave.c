// Times commands against each other, interleaved: in every round each command runs
// once (vfork, execv, waitpid, its output discarded), so that what disturbs the machine
// disturbs all of them. Prints each one's median and the median of its per-round
// ratios to the first, which is what to compare.
//
//   interleave [--evict LIST] ROUNDS NAME COMMAND [ARG…] +++ NAME COMMAND [ARG…] +++ …
//
// --evict: before every run the files named in LIST, one per line, leave the page cache.
// A NAME that begins with `@` is a server, started once: `interleave serve KEY COMMAND [ARG…]`,
// wherever its COMMAND line puts it. It runs its command when told to and says how long that took;
// and as a node's agent does it lets others join it: through the abstract socket trireme/KEY, and through the
// socket agent-KEY in this user's directory, which is answered with its namespaces.
//
// Build: cc -O2 -static interleave.c -o interleave
#define _GNU_SOURCE
#include <fcntl.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define WARM_UP 5
#define MAX_COMMANDS 32

static int ascending(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}
static double quantile(const double *values, int count, double q) {
    double *sorted = malloc(sizeof(double) * (size_t)count);
    memcpy(sorted, values, sizeof(double) * (size_t)count);
    qsort(sorted, (size_t)count, sizeof(double), ascending);
    double value = sorted[(int)(q * (count - 1) + 0.5)];
    free(sorted);
    return value;
}

// One run, in milliseconds; negative when it failed.
static double run(const char *name, char **command, int null) {
    struct timespec start, end;
    int status;
    clock_gettime(CLOCK_MONOTONIC, &start);
    pid_t child = vfork();
    if (child == 0) {
        dup2(null, 0);
        dup2(null, 1);
        dup2(null, 2);
        execv(command[0], command);
        _exit(127);
    }
    if (child < 0 || waitpid(child, &status, 0) != child) {
        perror("interleave");
        return -1;
    }
    clock_gettime(CLOCK_MONOTONIC, &end);
    if (status != 0) {
        fprintf(stderr, "interleave: %s: wait status 0x%x\n", name, status);
        return -1;
    }
    return (double)(end.tv_sec - start.tv_sec) * 1e3 + (double)(end.tv_nsec - start.tv_nsec) / 1e6;
}

// The server: a run for every byte on standard input, its milliseconds as text of a fixed length.
#define ANSWER 32
static int serve(const char *key, char **command, int null) {
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int length = snprintf(address.sun_path + 1, sizeof address.sun_path - 1, "trireme/%s", key);
    int listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (bind(listener, (struct sockaddr *)&address, (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + (size_t)length)) != 0
        || listen(listener, 4096) != 0) {
        perror("interleave: listen");
        return 1;
    }
    char byte, answer[ANSWER];
    int in = fcntl(0, F_DUPFD_CLOEXEC, 3), out = fcntl(1, F_DUPFD_CLOEXEC, 3);
    while (read(in, &byte, 1) == 1) {
        memset(answer, 0, sizeof answer);
        snprintf(answer, sizeof answer, "%.6f", run("served", command, null));
        if (write(out, answer, sizeof answer) != (ssize_t)sizeof answer) return 1;
    }
    return 0;
}

// Answers who connects to agent-KEY with the namespaces of `process`, for as long as this program runs.
static void door(const char *key, pid_t process) {
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    char directory[80], path[160];
    pid_t parent = getpid();
    if (fork() != 0) return;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent) _exit(1);
    snprintf(directory, sizeof directory, "/run/user/%u", geteuid());
    if (access(directory, W_OK) != 0) snprintf(directory, sizeof directory, "/tmp/trireme-%u", geteuid());
    else strcat(directory, "/trireme");
    mkdir(directory, 0700);
    snprintf(address.sun_path, sizeof address.sun_path, "%s/agent-%s", directory, key);
    unlink(address.sun_path);
    snprintf(path, sizeof path, "%s.lock", address.sun_path);
    int lock = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    int listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (bind(listener, (struct sockaddr *)&address, sizeof address) != 0 || listen(listener, 4096) != 0) {
        perror("interleave: door");
        _exit(1);
    }
    for (;;) {
        union { struct cmsghdr header; char space[CMSG_SPACE(2 * sizeof(int))]; } control = {0};
        struct iovec part = {"+", 1};
        struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control};
        int client = accept4(listener, NULL, NULL, SOCK_CLOEXEC), both[2];
        snprintf(path, sizeof path, "/proc/%d/ns/user", process);
        both[0] = open(path, O_RDONLY | O_CLOEXEC);
        snprintf(path, sizeof path, "/proc/%d/ns/mnt", process);
        both[1] = open(path, O_RDONLY | O_CLOEXEC);
        // Who comes looks for the mount namespace's number beside the socket.
        struct stat status;
        if (fstat(both[1], &status) == 0) {
            unsigned long number = status.st_ino;
            if (pwrite(lock, &number, sizeof number, 0) != sizeof number) perror("interleave: note");
        }
        control.header = (struct cmsghdr){.cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS, .cmsg_len = CMSG_LEN(sizeof both)};
        memcpy(CMSG_DATA(&control.header), both, sizeof both);
        sendmsg(client, &message, MSG_NOSIGNAL);
        close(both[0]);
        close(both[1]);
        close(client);
    }
}

struct server { int to, from; };
static struct server start(char **command) {
    int to[2], from[2];
    if (pipe2(to, O_CLOEXEC) != 0 || pipe2(from, O_CLOEXEC) != 0) exit(1);
    pid_t child = vfork();
    if (child == 0) {
        dup2(to[0], 0);
        dup2(from[1], 1);
        execv(command[0], command);
        _exit(127);
    }
    for (char **word = command; word[0] && word[1]; word++)
        if (strcmp(word[0], "serve") == 0) door(word[1], child);
    close(to[0]);
    close(from[1]);
    return (struct server){to[1], from[0]};
}
static double ask(struct server server) {
    char answer[ANSWER];
    if (write(server.to, "r", 1) != 1 || read(server.from, answer, sizeof answer) != (ssize_t)sizeof answer) return -1;
    return atof(answer);
}

static void evict(char *list) {
    FILE *lines = fopen(list, "re");
    char path[4096];
    if (!lines) exit(2);
    while (fgets(path, sizeof path, lines)) {
        path[strcspn(path, "\n")] = 0;
        int file = open(path, O_RDONLY | O_CLOEXEC);
        if (file < 0) continue;
        posix_fadvise(file, 0, 0, POSIX_FADV_DONTNEED);
        close(file);
    }
    fclose(lines);
}

int main(int argc, char **argv) {
    int null = open("/dev/null", O_RDWR | O_CLOEXEC);
    if (argc > 3 && strcmp(argv[1], "serve") == 0) return serve(argv[2], argv + 3, null);
    char *evicted = NULL;
    if (argc > 2 && strcmp(argv[1], "--evict") == 0) {
        evicted = argv[2];
        argc -= 2;
        argv += 2;
    }
    if (argc < 4) return 2;
    int rounds = atoi(argv[1]), count = 0;
    char **commands[MAX_COMMANDS];
    struct server servers[MAX_COMMANDS];
    for (int i = 2; i < argc && count < MAX_COMMANDS; i++) {
        commands[count++] = argv + i;
        while (i < argc && strcmp(argv[i], "+++") != 0) i++;
        argv[i] = NULL;
    }
    double *times[MAX_COMMANDS];
    for (int i = 0; i < count; i++) {
        times[i] = malloc(sizeof(double) * (size_t)rounds);
        if (commands[i][0][0] == '@') servers[i] = start(commands[i] + 1);
    }
    for (int round = -WARM_UP; round < rounds; round++) {
        for (int i = 0; i < count; i++) {
            if (evicted) evict(evicted);
            int isServed = commands[i][0][0] == '@';
            double ms = isServed ? ask(servers[i]) : run(commands[i][0], commands[i] + 1, null);
            if (ms < 0) return 1;
            if (round >= 0) times[i][round] = ms;
        }
    }
    printf("%-24s %10s %10s %8s\n", "command", "median ms", "min ms", "ratio");
    double *ratios = malloc(sizeof(double) * (size_t)rounds);
    for (int i = 0; i < count; i++) {
        for (int round = 0; round < rounds; round++) ratios[round] = times[i][round] / times[0][round];
        printf("%-24s %10.3f %10.3f %8.3f\n", commands[i][0] + (commands[i][0][0] == '@'),
               quantile(times[i], rounds, 0.5), quantile(times[i], rounds, 0), quantile(ratios, rounds, 0.5));
    }
    return 0;
}
