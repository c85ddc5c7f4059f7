/* trireme-inflate: inflates one gzip stream (RFC 1952) for a program that trusts neither the stream nor
 * the inflating of it.
 *
 *   trireme-inflate     standard input: a socket to its user; standard output: shared memory
 *
 * The memory holds one piece of input and two of output (`layout`). Before the first byte of the stream
 * the process gives up every system call but read, write and exit (seccomp strict mode), so whatever a
 * stream made for libisal's faults could make it do stays between this memory and the socket.
 *
 * Then it answers requests (4 bytes each, this machine's order) with replies (8 bytes), in order:
 *
 *   request   how many new bytes lie in the input; 0: go on with what was not used of the last ones
 *   reply     status, how many bytes were written to the output; the two pieces of output take turns
 *
 * Its first reply, unasked, has status READY and the memory's size, which a program of another release may
 * have different ideas of. It ends with its user's end of the socket.
 * The program is linked with the system's libisal, which has no static form in many distributions:
 * where it does not start, the user inflates with zlib (ImageFormats/Compression/SealedInflate.swift).
 */
#include <isa-l/igzip_lib.h>
#include <linux/seccomp.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { USER = 0, MEMORY = 1, MOST_FILES = 1 << 20 };

/* SealedInflate.swift has the same numbers. */
enum layout { INPUT_BYTES = 256 << 10, OUTPUT_BYTES = 512 << 10, ALL_BYTES = INPUT_BYTES + 2 * OUTPUT_BYTES };
enum status {
    OUTPUT_FULL = 0,
    WANTS_INPUT = 1,    /* in the middle of a member */
    BETWEEN_MEMBERS = 2, /* wants input; the stream may end here */
    READY = 3,
    /* From here on it is over. */
    BAD_BLOCK = 16,
    BAD_SYMBOL,
    BAD_DISTANCE,
    BAD_HEADER,
    BAD_METHOD,
    BAD_CHECK,
    BAD_FLAGS,
    BAD_OTHER,
};
struct reply { uint32_t status, produced; };

static struct inflate_state state;
static struct isal_gzip_header header;
/* The stream's first member begins at its first byte, without padding before it. */
static enum { BETWEEN, HEADER, CONTENT } position = HEADER;

static void end(int status)
{
    /* exit_group(2), what _exit(3) calls, is not among the three. */
    for (;;) syscall(SYS_exit, status);
}

/* Strict mode would still let it write to whatever it was started with. */
static void close_all_but_user(void)
{
    if (!syscall(SYS_close_range, USER + 1, ~0u, 0)) return;
    /* Kernels before 5.9. */
    struct rlimit limit = {0};
    if (getrlimit(RLIMIT_NOFILE, &limit) || limit.rlim_cur > MOST_FILES) limit.rlim_cur = MOST_FILES;
    for (int file = USER + 1; file < (int)limit.rlim_cur; file++) close(file);
}

static void tell(uint32_t status, uint32_t produced)
{
    struct reply reply = {status, produced};
    if (write(USER, &reply, sizeof reply) != sizeof reply) end(1);
}

static enum status fault(int result)
{
    switch (result) {
    case ISAL_INVALID_BLOCK: return BAD_BLOCK;
    case ISAL_INVALID_SYMBOL: return BAD_SYMBOL;
    case ISAL_INVALID_LOOKBACK: return BAD_DISTANCE;
    case ISAL_INVALID_WRAPPER: return BAD_HEADER;
    case ISAL_UNSUPPORTED_METHOD: return BAD_METHOD;
    case ISAL_INCORRECT_CHECKSUM: return BAD_CHECK;
    default: return BAD_OTHER;
    }
}

static void begin_member(void)
{
    isal_inflate_reset(&state);
    state.crc_flag = ISAL_GZIP_NO_HDR_VER;
    isal_gzip_header_init(&header);
    position = HEADER;
}

/* Inflates until the output is full, the input is used up or the stream is found to be wrong. */
static enum status work(void)
{
    for (;;) {
        if (position == BETWEEN) {
            /* Zero padding after a member is what tape tools leave; gzip(1) accepts it, too. */
            while (state.avail_in && !*state.next_in) state.next_in++, state.avail_in--;
            if (!state.avail_in) return BETWEEN_MEMBERS;
            if (*state.next_in != 0x1f) return BAD_HEADER;
            begin_member();
        }
        if (position == HEADER) {
            /* Not isal_inflate's own reading of it: that forgets the flags when the header comes in pieces. */
            if (!state.avail_in) return WANTS_INPUT;
            int result = isal_read_gzip_header(&state, &header);
            if (result == ISAL_END_INPUT) return WANTS_INPUT;
            if (result) return fault(result);
            if (header.flags & 0xe0) return BAD_FLAGS;
            position = CONTENT;
        }
        uint32_t in = state.avail_in, out = state.avail_out;
        int before = state.block_state, result = isal_inflate(&state);
        if (result) return fault(result);
        if (state.block_state == ISAL_BLOCK_FINISH)
            position = BETWEEN;
        else if (!state.avail_out)
            return OUTPUT_FULL;
        else if (!state.avail_in)
            return WANTS_INPUT;
        else if (in == state.avail_in && out == state.avail_out && before == (int)state.block_state)
            return BAD_OTHER;
    }
}

int main(void)
{
    uint8_t *memory = mmap(NULL, ALL_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, MEMORY, 0);
    if (memory == MAP_FAILED) return 1;
    close_all_but_user();
    isal_inflate_init(&state);
    begin_member();
    if (prctl(PR_SET_SECCOMP, SECCOMP_MODE_STRICT)) return 1;

    tell(READY, ALL_BYTES);
    uint8_t *output = memory + INPUT_BYTES;
    uint32_t request;
    for (int turn = 0;; turn = !turn) {
        if (read(USER, &request, sizeof request) != sizeof request || request > INPUT_BYTES) end(0);
        if (request) {
            state.next_in = memory;
            state.avail_in = request;
        }
        state.next_out = output + turn * OUTPUT_BYTES;
        state.avail_out = OUTPUT_BYTES;
        enum status status = work();
        tell(status, OUTPUT_BYTES - state.avail_out);
    }
}
