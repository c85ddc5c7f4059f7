// Times commands against each other, interleaved: in every round each command runs
// once (vfork, execv, waitpid, its output discarded), so that what disturbs the machine
// disturbs all of them. Prints each one's median and the median of its per-round
// ratios to the first, which is what to compare.
//
//   interleave ROUNDS NAME COMMAND [ARG…] -- NAME COMMAND [ARG…] -- …
//
// Build: cc -O2 -static interleave.c -o interleave
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
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
static double run(char **command, int null) {
    struct timespec start, end;
    int status;
    clock_gettime(CLOCK_MONOTONIC, &start);
    pid_t child = vfork();
    if (child == 0) {
        dup2(null, 0);
        dup2(null, 1);
        execv(command[1], command + 1);
        _exit(127);
    }
    if (child < 0 || waitpid(child, &status, 0) != child) {
        perror("interleave");
        return -1;
    }
    clock_gettime(CLOCK_MONOTONIC, &end);
    if (status != 0) {
        fprintf(stderr, "interleave: %s: wait status 0x%x\n", command[0], status);
        return -1;
    }
    return (double)(end.tv_sec - start.tv_sec) * 1e3 + (double)(end.tv_nsec - start.tv_nsec) / 1e6;
}

int main(int argc, char **argv) {
    if (argc < 4) return 2;
    int rounds = atoi(argv[1]), count = 0;
    char **commands[MAX_COMMANDS];
    for (int i = 2; i < argc && count < MAX_COMMANDS; i++) {
        commands[count++] = argv + i;
        while (i < argc && strcmp(argv[i], "--") != 0) i++;
        argv[i] = NULL;
    }
    double *times[MAX_COMMANDS];
    for (int i = 0; i < count; i++) times[i] = malloc(sizeof(double) * (size_t)rounds);
    int null = open("/dev/null", O_RDWR | O_CLOEXEC);
    for (int round = -WARM_UP; round < rounds; round++) {
        for (int i = 0; i < count; i++) {
            double ms = run(commands[i], null);
            if (ms < 0) return 1;
            if (round >= 0) times[i][round] = ms;
        }
    }
    printf("%-24s %10s %10s %8s\n", "command", "median ms", "min ms", "ratio");
    double *ratios = malloc(sizeof(double) * (size_t)rounds);
    for (int i = 0; i < count; i++) {
        for (int round = 0; round < rounds; round++) ratios[round] = times[i][round] / times[0][round];
        printf("%-24s %10.3f %10.3f %8.3f\n", commands[i][0], quantile(times[i], rounds, 0.5),
               quantile(times[i], rounds, 0), quantile(ratios, rounds, 0.5));
    }
    return 0;
}
