// libFuzzer's own loop (compiler-rt, FuzzerInterface.h), for programs that bring their own main.
#pragma once
#include <stddef.h>
#include <stdint.h>

int LLVMFuzzerRunDriver(int *argc, char ***argv, int (*one)(const uint8_t *data, size_t size));

/// What is freed goes back to the kernel (mallopt(3)): memory kept for later hides what the next input takes.
void FuzzerReturnFreedMemory(void);
