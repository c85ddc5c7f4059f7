/* The MPI program of the first steps and of the tests.
 *
 * Every rank says who and where it is, and all agree on a sum: a start that
 * silently became N programs of one rank each is seen at once.
 *
 *   mpi-hello [--sleep SECONDS] [--exit CODE@RANK] [--abort CODE@RANK] [--signal NUMBER@RANK] [--stubborn]
 *
 * --sleep     after the greeting, before the end
 * --exit      RANK leaves with CODE without a word to MPI, as a crashing program does
 * --abort     RANK calls MPI_Abort(CODE)
 * --signal    RANK is ended by signal NUMBER
 * --stubborn  SIGTERM is ignored
 */
#include <mpi.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* "CODE@RANK" of the option when it names this rank, else -1. */
static int value_for(const char *text, int rank)
{
    int value, whom;
    return sscanf(text, "%d@%d", &value, &whom) == 2 && whom == rank ? value : -1;
}

int main(int argc, char **argv)
{
    int rank, size, sum, other, length, i, code = -1, abort_code = -1, number = -1, seconds = 0;
    char host[256], library[MPI_MAX_LIBRARY_VERSION_STRING];

    MPI_Init(&argc, &argv);
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    MPI_Comm_size(MPI_COMM_WORLD, &size);
    for (i = 1; i < argc; i++) {
        const char *next = i + 1 < argc ? argv[i + 1] : "";
        if (!strcmp(argv[i], "--stubborn")) { signal(SIGTERM, SIG_IGN); continue; }
        if (!strcmp(argv[i], "--sleep")) seconds = atoi(next);
        if (!strcmp(argv[i], "--exit")) code = value_for(next, rank);
        if (!strcmp(argv[i], "--abort")) abort_code = value_for(next, rank);
        if (!strcmp(argv[i], "--signal")) number = value_for(next, rank);
        i++;
    }
    gethostname(host, sizeof host);
    MPI_Get_library_version(library, &length);
    library[strcspn(library, ",\n")] = 0;
    for (char *tab = library; (tab = strchr(tab, '\t')) != NULL;) *tab = ' ';
    MPI_Allreduce(&rank, &sum, 1, MPI_INT, MPI_SUM, MPI_COMM_WORLD);
    printf("rank %d of %d on %s pid %d (%s) sum %d\n", rank, size, host, (int)getpid(), library, sum);
    fflush(stdout);
    if (code >= 0) _exit(code);
    if (abort_code >= 0) MPI_Abort(MPI_COMM_WORLD, abort_code);
    if (number >= 0) raise(number);
    sleep(seconds);
    /* Every pair talks: a network that joins only some of the nodes is found. It also keeps MPICH 4.0 over
     * UCX from hanging in MPI_Finalize: a rank there waits for connections still being set up, which a rank
     * that is already through no longer answers. */
    for (i = 1; i < size; i++)
        MPI_Sendrecv(&rank, 1, MPI_INT, (rank + i) % size, 0, &other, 1, MPI_INT, (rank + size - i) % size, 0,
                     MPI_COMM_WORLD, MPI_STATUS_IGNORE);
    MPI_Barrier(MPI_COMM_WORLD);
    MPI_Finalize();
    return sum == size * (size - 1) / 2 ? 0 : 1;
}
