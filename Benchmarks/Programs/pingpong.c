/* Half of a message's round trip between ranks 0 and 1, in microseconds: pingpong TURNS NUMBER OF ROUNDS
 *
 * OF jobs, each one of these programs with its NUMBER from 0, share the file TURNS and measure in turn, a few
 * milliseconds each, ROUNDS times over, while the others sleep. Jobs one after the other cannot be compared
 * to a percent: where the machine's host puts its two processors changes every few seconds and with it the
 * latency, by a factor of two and more. Rank 0 prints "BYTES ROUND MICROSECONDS", the median of the turn.
 */
#include <fcntl.h>
#include <linux/futex.h>
#include <mpi.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { sizes = 3, most = 40 };
static const struct {
    int bytes, batches, trips;
} plan[sizes] = {{8, 20, 50}, {65536, 40, 4}, {4194304, 7, 1}};

/* How many ranks have come, and whose turn it is: all that have come have had `turn / of` turns. */
struct turns {
    atomic_int come, turn;
};

static int ascending(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* Sleeps until *word is at least `value`; the word lies in a file that jobs in other namespaces map, too. */
static void wait_for(atomic_int *word, int value)
{
    int seen;
    while ((seen = atomic_load(word)) < value) syscall(SYS_futex, word, FUTEX_WAIT, seen, NULL, NULL, 0);
}

static void wake(atomic_int *word)
{
    syscall(SYS_futex, word, FUTEX_WAKE, 1 << 30, NULL, NULL, 0);
}

static double trips(int rank, char *buffer, int bytes, int count)
{
    double begin = MPI_Wtime();
    for (int i = 0; i < count; i++) {
        if (rank == 0) {
            MPI_Send(buffer, bytes, MPI_CHAR, 1, 0, MPI_COMM_WORLD);
            MPI_Recv(buffer, bytes, MPI_CHAR, 1, 0, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
        } else {
            MPI_Recv(buffer, bytes, MPI_CHAR, 0, 0, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
            MPI_Send(buffer, bytes, MPI_CHAR, 0, 0, MPI_COMM_WORLD);
        }
    }
    return (MPI_Wtime() - begin) / 2 / count * 1e6;
}

int main(int argc, char **argv)
{
    int rank, size;
    MPI_Init(&argc, &argv);
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    MPI_Comm_size(MPI_COMM_WORLD, &size);
    if (size != 2 || argc != 5) {
        fprintf(stderr, "pingpong: %d ranks, not 2, or %d words, not 4\n", size, argc - 1);
        MPI_Abort(MPI_COMM_WORLD, 2);
    }
    int number = atoi(argv[2]), of = atoi(argv[3]), rounds = atoi(argv[4]);
    int file = open(argv[1], O_RDWR);
    struct turns *turns = mmap(NULL, sizeof *turns, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    char *buffer = calloc(1, plan[sizes - 1].bytes);
    if (turns == MAP_FAILED || !buffer) {
        perror(argv[1]);
        MPI_Abort(MPI_COMM_WORLD, 2);
    }
    double (*medians)[sizes] = calloc(rounds, sizeof *medians), times[most];
    /* Connections are made lazily: before anybody measures. */
    for (int s = 0; s < sizes; s++) trips(rank, buffer, plan[s].bytes, 3);
    atomic_fetch_add(&turns->come, 1);
    wake(&turns->come);
    wait_for(&turns->come, 2 * of);
    for (int round = 0; round < rounds; round++) {
        wait_for(&turns->turn, round * of + number);
        for (int s = 0; s < sizes; s++) {
            trips(rank, buffer, plan[s].bytes, plan[s].trips * plan[s].batches / 4 + 1);
            for (int i = 0; i < plan[s].batches; i++) times[i] = trips(rank, buffer, plan[s].bytes, plan[s].trips);
            qsort(times, plan[s].batches, sizeof *times, ascending);
            medians[round][s] = times[plan[s].batches / 2];
        }
        MPI_Barrier(MPI_COMM_WORLD);
        if (rank == 0) {
            atomic_fetch_add(&turns->turn, 1);
            wake(&turns->turn);
        }
    }
    /* Nobody ends, and makes noise, before the last has measured. */
    wait_for(&turns->turn, rounds * of);
    for (int round = 0; rank == 0 && round < rounds; round++) {
        for (int s = 0; s < sizes; s++) printf("%d %d %.4f\n", plan[s].bytes, round, medians[round][s]);
    }
    /* MPICH 4.0 under Slurm's own pmi2 hangs in what follows now and then. */
    fflush(stdout);
    MPI_Finalize();
    return 0;
}
