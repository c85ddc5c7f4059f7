#include "FuzzerDriver.h"

#include <malloc.h>

void FuzzerReturnFreedMemory(void) {
    mallopt(M_MMAP_THRESHOLD, 128 << 10);
    mallopt(M_TRIM_THRESHOLD, 128 << 10);
}
