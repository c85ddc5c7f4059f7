// Takes the place of what launches of the same user look for, from inside a container:
//   squat watch             with what the container shows: abstract names, and paths where they would be
//   squat take DIRECTORY NAME   where the directory of the user's sockets is shown as DIRECTORY
// Who comes is answered with namespaces made here, whose image is this program under every name.
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#define DO(x) do { if ((x) < 0) { fprintf(stderr, "squat: %s: %s\n", #x, strerror(errno)); exit(1); } } while (0)

static int namespaces[2];
// The kernel's table of Unix sockets, from before /proc is covered.
static int sockets;

static void put(const char *path, const char *text) {
    int file = open(path, O_WRONLY | O_CREAT, 0644);
    if (file < 0 || write(file, text, strlen(text)) < 0) perror(path);
    close(file);
}

static void copy(const char *from, const char *to) {
    static char buffer[65536];
    int source = open(from, O_RDONLY), target = open(to, O_WRONLY | O_CREAT, 0755);
    ssize_t n;
    while ((n = read(source, buffer, sizeof buffer)) > 0)
        if (write(target, buffer, (size_t)n) != n) perror(to);
    close(source);
    close(target);
}

static void make_namespaces(void) {
    uid_t user = getuid();
    gid_t group = getgid();
    char map[64];
    DO(unshare(CLONE_NEWUSER | CLONE_NEWNS));
    put("/proc/self/setgroups", "deny");
    snprintf(map, sizeof map, "%u %u 1", user, user);
    put("/proc/self/uid_map", map);
    snprintf(map, sizeof map, "%u %u 1", group, group);
    put("/proc/self/gid_map", map);
    DO(namespaces[0] = open("/proc/self/ns/user", O_RDONLY));
    DO(namespaces[1] = open("/proc/self/ns/mnt", O_RDONLY));
}

// An image of this program where the server would have mounted one, and what a launch asks for on its way.
static void make_image(void) {
    const char *directories[] = {"", "bin", "proc", "sys", "dev", "tmp", "etc", "usr", "usr/bin", "var", "var/tmp",
                                 "root", "run", "home", "home/user"};
    const char *files[] = {"passwd", "group", "hosts", "resolv.conf", "hostname", "localtime", "marker"};
    const char *programs[] = {"sh", "true", "cat", "probe"};
    char path[128];
    mkdir("/tmp/empty", 0755);
    for (unsigned i = 0; i < sizeof directories / sizeof *directories; i++) {
        snprintf(path, sizeof path, "/tmp/low/%s", directories[i]);
        mkdir(path, 0755);
    }
    for (unsigned i = 0; i < sizeof files / sizeof *files; i++) {
        snprintf(path, sizeof path, "/tmp/low/etc/%s", files[i]);
        put(path, "squatted");
    }
    for (unsigned i = 0; i < sizeof programs / sizeof *programs; i++) {
        snprintf(path, sizeof path, "/tmp/low/bin/%s", programs[i]);
        copy("/bin/squat", path);
    }
    DO(mount("t", "/sys", "tmpfs", 0, "mode=0755"));
    mkdir("/sys/image", 0755);
    mkdir("/sys/empty", 0755);
    DO(mount("o", "/sys/image", "overlay", MS_RDONLY, "userxattr,lowerdir=/tmp/low:/tmp/empty"));
    DO(mount("o", "/sys", "overlay", MS_RDONLY, "userxattr,lowerdir=/sys/empty:/sys/image"));
    // By /proc/self/fd a launch names the image's root: that is ours as well.
    DO(mount("t", "/proc", "tmpfs", 0, "mode=0755"));
    mkdir("/proc/self", 0755);
    mkdir("/proc/self/fd", 0755);
    for (int i = 0; i < 100; i++) {
        snprintf(path, sizeof path, "/proc/self/fd/%d", i);
        if (symlink("/tmp/low", path) != 0) perror(path);
    }
}

static int bound(const char *name, size_t length) {
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int listener = socket(AF_UNIX, SOCK_STREAM, 0);
    if (length > sizeof address.sun_path) return -1;
    memcpy(address.sun_path, name, length);
    if (bind(listener, (void *)&address, (socklen_t)(offsetof(struct sockaddr_un, sun_path) + length)) == 0 &&
        listen(listener, 64) == 0)
        return listener;
    close(listener);
    return -1;
}

static void welcome(int listener) {
    union { struct cmsghdr header; char space[CMSG_SPACE(sizeof namespaces)]; } control;
    struct iovec part = {"+", 1};
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = &control,
                             .msg_controllen = sizeof control};
    int client = accept(listener, NULL, NULL);
    if (client < 0) return;
    printf("a launch has come\n");
    memset(&control, 0, sizeof control);
    control.header.cmsg_level = SOL_SOCKET;
    control.header.cmsg_type = SCM_RIGHTS;
    control.header.cmsg_len = CMSG_LEN(sizeof namespaces);
    memcpy(CMSG_DATA(&control.header), namespaces, sizeof namespaces);
    sendmsg(client, &message, MSG_NOSIGNAL);  // and stays open: the server's clients wait for nothing else
}

_Noreturn static void take(const char *directory, const char *name) {
    char path[256];
    struct stat status;
    snprintf(path, sizeof path, "%s/%s.lock", directory, name);
    int lock = open(path, O_RDWR | O_CREAT, 0600);
    DO(lock);
    DO(flock(lock, LOCK_EX));
    DO(fstat(namespaces[1], &status));
    unsigned long note = status.st_ino;
    DO(pwrite(lock, &note, sizeof note, 0));
    DO(chdir(directory));
    unlink(name);
    int listener = bound(name, strlen(name) + 1);
    DO(listener);
    printf("have the name\n");
    for (;;) welcome(listener);
}

// Whatever is of ours in the kernel's table of sockets, and where this container shows a place for it.
_Noreturn static void watch(void) {
    struct pollfd taken[256];
    nfds_t count = 0;
    char line[512], path[256], places[2][64];
    snprintf(places[0], sizeof *places, "/tmp/trireme-%u", getuid());
    snprintf(places[1], sizeof *places, "/run/user/%u/trireme", getuid());
    for (int i = 0; i < 2; i++) mkdir(places[i], 0700);
    printf("looking\n");
    for (;;) {
        lseek(sockets, 0, SEEK_SET);
        FILE *table = fdopen(dup(sockets), "r");
        while (table && count < 250 && fgets(line, sizeof line, table)) {
            line[strcspn(line, "\n")] = 0;
            char *name = strpbrk(line, "@/");
            if (!name) continue;
            if (*name == '@' && strstr(name, "trireme")) {
                printf("seen %s\n", name);
                size_t length = strlen(name);
                *name = 0;
                int listener = bound(name, length);
                if (listener >= 0) taken[count++] = (struct pollfd){listener, POLLIN, 0};
            }
            char *last = strrchr(line, '/');
            if (!last || (strncmp(last, "/image-", 7) && strncmp(last, "/step-", 6) && strncmp(last, "/agent-", 7)))
                continue;
            for (int i = 0; i < 2 && count < 250; i++) {
                snprintf(path, sizeof path, "%s%.80s", places[i], last);
                int listener = bound(path, strlen(path) + 1);
                if (listener >= 0) taken[count++] = (struct pollfd){listener, POLLIN, 0};
            }
        }
        if (table) fclose(table);
        if (poll(taken, count, 2) > 0)
            for (nfds_t i = 0; i < count; i++)
                if (taken[i].revents) welcome(taken[i].fd);
    }
}

int main(int argc, char **argv) {
    const char *own = strrchr(argv[0], '/') ? strrchr(argv[0], '/') + 1 : argv[0];
    setvbuf(stdout, NULL, _IOLBF, 0);
    if (strcmp(own, "squat") != 0) {
        printf("squatted\n");
        return 0;
    }
    make_namespaces();
    DO(sockets = open("/proc/net/unix", O_RDONLY));
    make_image();
    if (argc == 2 && strcmp(argv[1], "watch") == 0) watch();
    if (argc == 4 && strcmp(argv[1], "take") == 0) take(argv[2], argv[3]);
    return 2;
}
