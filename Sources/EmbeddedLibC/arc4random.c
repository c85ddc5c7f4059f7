// arc4random_buf(3), which the standard library's hashing seeds itself with and musl does not have.
#include <stddef.h>
#include <stdlib.h>
#include <sys/random.h>
#include <sys/types.h>

void arc4random_buf(void *buffer, size_t size) {
    for (size_t done = 0; done < size;) {
        ssize_t count = getrandom((char *)buffer + done, size - done, 0);
        if (count < 0) abort();
        done += (size_t)count;
    }
}
