/* Half of a message's round trip between ranks 0 and 1, in microseconds, for a
 * small, a middle and a large message: "BYTES MICROSECONDS" lines, median of the trips.
 */
#include <mpi.h>
#include <stdio.h>
#include <stdlib.h>

static int ascending(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

int main(int argc, char **argv)
{
    static const int sizes[] = {8, 65536, 4194304}, trips[] = {4000, 1000, 60};
    int rank, size, s, i;
    MPI_Init(&argc, &argv);
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    MPI_Comm_size(MPI_COMM_WORLD, &size);
    if (size != 2) {
        fprintf(stderr, "pingpong: %d ranks, not 2\n", size);
        MPI_Abort(MPI_COMM_WORLD, 2);
    }
    char *buffer = calloc(1, 4194304);
    double *times = calloc(4000, sizeof *times);
    for (s = 0; s < 3; s++) {
        /* As many trips again before, unmeasured: connections are made lazily. */
        for (i = -trips[s] / 4; i < trips[s]; i++) {
            double begin = MPI_Wtime();
            if (rank == 0) {
                MPI_Send(buffer, sizes[s], MPI_CHAR, 1, 0, MPI_COMM_WORLD);
                MPI_Recv(buffer, sizes[s], MPI_CHAR, 1, 0, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
            } else {
                MPI_Recv(buffer, sizes[s], MPI_CHAR, 0, 0, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
                MPI_Send(buffer, sizes[s], MPI_CHAR, 0, 0, MPI_COMM_WORLD);
            }
            if (i >= 0) times[i] = (MPI_Wtime() - begin) / 2 * 1e6;
        }
        qsort(times, trips[s], sizeof *times, ascending);
        if (rank == 0) printf("%d %.3f\n", sizes[s], times[trips[s] / 2]);
    }
    MPI_Finalize();
    return 0;
}
