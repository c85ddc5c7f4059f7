/* The oldest version of each symbol that glibc has changed, so that a program built on a new system runs on
 * an image's older C library (2.17 and later). Such binaries ask for the versions of the system they were
 * linked on: since 2.34 even `main` cannot be called without that release. */
#ifndef FLOOR_H
#define FLOOR_H
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stddef.h>

#if defined(__x86_64__)
#define FIRST_VERSION "GLIBC_2.2.5"
#elif defined(__aarch64__)
#define FIRST_VERSION "GLIBC_2.17"
#else
#error "trireme knows x86-64 and arm64"
#endif
#define OLD(name) __asm__(".symver " #name "," #name "@" FIRST_VERSION)
OLD(dlopen);
OLD(dlsym);
OLD(dlerror);
OLD(__libc_start_main);
#if defined(__x86_64__)
OLD(memcpy);
#endif

/* crt1.o of the build system would ask for the newest start-up; this is all it does otherwise. */
int main(int, char **);
int __libc_start_main(int (*)(int, char **), int, char **, void (*)(void), void (*)(void), void (*)(void), void *);
__attribute__((used)) static void begin_on(long *stack)
{
    __libc_start_main(main, (int)stack[0], (char **)(stack + 1), NULL, NULL, NULL, stack);
}
#if defined(__x86_64__)
__asm__(".globl _start\n_start:\n xor %ebp, %ebp\n mov %rsp, %rdi\n and $-16, %rsp\n call begin_on\n hlt\n");
#else
__asm__(".globl _start\n_start:\n mov x29, #0\n mov x30, #0\n mov x0, sp\n bl begin_on\n brk #1\n");
#endif
#endif
