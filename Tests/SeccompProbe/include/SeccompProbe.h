// Tries system calls by number behind a filter, in a child process. C, because between fork and
// exit of a program with threads only raw calls are safe.
#ifndef SECCOMP_PROBE_H
#define SECCOMP_PROBE_H

#include <stdint.h>

struct probe_call {
    long number;
    long arguments[6];
    /// Nonzero: through the 32-bit entry (int 0x80) of x86_64.
    int through_i386;
    /// Set by the probe: the result, or -errno.
    long result;
};

/// Forks, sets no_new_privs, calls `install` (NULL: none) `times` times and then every call in order.
/// Returns 0, the signal that ended the child, -1 when it could not be started,
/// or 1000 + errno when `install` failed.
int probe_calls(int (*install)(void), int times, struct probe_call *calls, int count);

/// What programs do all day, each by name in a bit; returns the bits of those that failed, or -1:
/// 1 fork+exec, 2 mmap, 4 ptrace traceme, 8 process_vm_readv of a sibling, 16 sched_setaffinity,
/// 32 a thread by clone3 or clone, 64 a user namespace with a tmpfs in it, 128 an own filter on top,
/// 256 mbind and set_mempolicy.
long probe_ordinary(int (*install)(void));

/// Nanoseconds per call of `number` (no arguments) over `rounds`, behind `install` (NULL: no filter).
double probe_nanoseconds(int (*install)(void), long number, long rounds);

/// Puts one byte into the input of a new terminal by TIOCSTI; `high` is set in the upper half of the
/// request. Returns 0 or -errno of ioctl(2), -1000 when there was no terminal.
int probe_terminal_injection(int (*install)(void), unsigned long high);

#endif
