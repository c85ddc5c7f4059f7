// Runs a static program one instruction at a time until it becomes another, and prints the addresses
// it came by, each once, in that order (Scripts/order-launcher).
//
//   step PROGRAM [ARG…]
//
// Build: cc -O2 step.c -o step
#define _GNU_SOURCE
#include <signal.h>
#include <stdio.h>
#include <sys/ptrace.h>
#include <sys/uio.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <elf.h>
#include <unistd.h>

#define LOWEST 0x200000ul
static unsigned char seen[32 << 20];  // one byte per address of a program that is not relocated

static unsigned long instruction(pid_t child) {
    struct user_regs_struct registers;
    struct iovec part = {&registers, sizeof registers};
    if (ptrace(PTRACE_GETREGSET, child, (void *)NT_PRSTATUS, &part) != 0) return 0;
#ifdef __x86_64__
    return registers.rip;
#else
    return registers.pc;
#endif
}

int main(int argc, char **argv) {
    if (argc < 2) return 2;
    pid_t child = fork();
    if (child == 0) {
        ptrace(PTRACE_TRACEME, 0, NULL, NULL);
        execv(argv[1], argv + 1);
        _exit(127);
    }
    int status;
    waitpid(child, &status, 0);
    ptrace(PTRACE_SETOPTIONS, child, NULL, (void *)(long)PTRACE_O_TRACEEXEC);
    while (!WIFEXITED(status) && status >> 8 != (SIGTRAP | PTRACE_EVENT_EXEC << 8)) {
        unsigned long address = instruction(child);
        if (address >= LOWEST && address < LOWEST + sizeof seen && !seen[address - LOWEST]) {
            seen[address - LOWEST] = 1;
            printf("%016lx\n", address);
        }
        if (ptrace(PTRACE_SINGLESTEP, child, NULL, NULL) != 0 || waitpid(child, &status, 0) != child) break;
    }
    kill(child, SIGKILL);
    return 0;
}
