/* Every rank sends every other one messages of 1 byte to 5 MiB and looks at each byte that comes: rank 0 says how many
 * ranks got something else. MPI libraries have a way of their own for each size. */
#include <mpi.h>
#include <stdio.h>
#include <stdlib.h>

int main(int argc, char **argv)
{
    static const int sizes[] = {1, 64, 5000, 70000, 1 << 20, 5 << 20};
    int rank, count, wrong = 0, all, size, distance, i;

    MPI_Init(&argc, &argv);
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    MPI_Comm_size(MPI_COMM_WORLD, &count);
    for (size = 0; size < 6; size++) {
        unsigned char *out = malloc(sizes[size]), *in = calloc(sizes[size], 1);
        for (i = 0; i < sizes[size]; i++) out[i] = (unsigned char)(i * 7 + rank * 31 + size);
        for (distance = 1; distance < count; distance++) {
            int from = (rank + count - distance) % count;
            MPI_Sendrecv(out, sizes[size], MPI_BYTE, (rank + distance) % count, 0, in, sizes[size], MPI_BYTE, from, 0,
                         MPI_COMM_WORLD, MPI_STATUS_IGNORE);
            for (i = 0; i < sizes[size]; i++)
                if (in[i] != (unsigned char)(i * 7 + from * 31 + size)) {
                    wrong = 1;
                    break;
                }
        }
        free(out);
        free(in);
    }
    MPI_Allreduce(&wrong, &all, 1, MPI_INT, MPI_SUM, MPI_COMM_WORLD);
    if (rank == 0) printf("wrong %d of %d\n", all, count);
    MPI_Finalize();
    return all != 0;
}
