// The C library as Swift's own module has it; its variadic functions with fixed arguments, and
// constants with the types that Swift's module gives them.
#pragma once
#include <SwiftGlibc.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/stat.h>

#undef S_IFMT
#undef S_IFSOCK
#undef S_IFLNK
#undef S_IFREG
#undef S_IFBLK
#undef S_IFDIR
#undef S_IFCHR
#undef S_IFIFO
static const mode_t S_IFMT = 0170000, S_IFSOCK = 0140000, S_IFLNK = 0120000, S_IFREG = 0100000;
static const mode_t S_IFBLK = 0060000, S_IFDIR = 0040000, S_IFCHR = 0020000, S_IFIFO = 0010000;
#undef SIG_DFL
static const __sighandler_t SIG_DFL = (__sighandler_t)0;

static inline int glibc_openat(int directory, const char *path, int flags, mode_t mode) {
    return openat(directory, path, flags, mode);
}
static inline int glibc_fcntl(int descriptor, int command, int value) { return fcntl(descriptor, command, value); }
