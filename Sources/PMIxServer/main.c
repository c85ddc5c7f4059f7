/* trireme-pmix: the PMIx server of one node's ranks, through the image's own libpmix.
 *
 *   trireme-pmix LIBRARY NAMESPACE NODE NAMES RANKS TMPDIR
 *
 * LIBRARY is what dlopen(3) gets, NODE this node's number, NAMES all node names and RANKS the count of
 * ranks on each, comma-separated. It runs inside the container, beside the ranks: the server of a library
 * understands its clients better than another release's would. What must cross nodes goes through the
 * agent on standard input, a socket, in the agent's frames (JobWire/Frame.swift): length of the
 * content, kind, number (4 bytes each, little-endian), content.
 *
 *   to the agent                                    from it
 *   E rank: its variables, each NUL-ended
 *   R everything is ready
 *   C rank: has connected
 *   F this node's contribution to a fence           F all nodes', joined
 *   D ticket: another node's rank is wanted         d ticket: status, that rank's data
 *   d ticket: status, data                          D ticket: a rank of this node is wanted
 *   A rank: code, message: MPI_Abort
 *
 * The program ends with the agent's end of the socket. Standard error
 * says why it could not begin. Interface: the PMIx standard, version 2 and later (pmix_server.h), whose
 * structures have kept their layout since.
 *
 * Old images have an old C library, so newer versions of symbols are not asked for: see `floor.h`.
 */
#include "floor.h"

#include <errno.h>
#include <pmix_server.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

enum { AGENT = 0, MOST = 1 << 30 };

/* ---- the library's functions, by name ---- */

static struct {
    pmix_status_t (*init)(pmix_server_module_t *, pmix_info_t *, size_t);
    pmix_status_t (*nspace)(const char *, int, pmix_info_t *, size_t, pmix_op_cbfunc_t, void *);
    pmix_status_t (*client)(const pmix_proc_t *, uid_t, gid_t, void *, pmix_op_cbfunc_t, void *);
    pmix_status_t (*fork_environment)(const pmix_proc_t *, char ***);
    pmix_status_t (*regex)(const char *, char **);
    pmix_status_t (*ppn)(const char *, char **);
    pmix_status_t (*dmodex)(const pmix_proc_t *, pmix_dmodex_response_fn_t, void *);
    const char *(*error)(pmix_status_t);
} pmix;

static void fail(const char *what, const char *why)
{
    fprintf(stderr, "%s: %s\n", what, why);
    exit(1);
}

static void check(const char *what, pmix_status_t status)
{
    if (status != PMIX_SUCCESS && status != PMIX_OPERATION_SUCCEEDED) fail(what, pmix.error(status));
}

static void load(const char *library)
{
    static const struct { const char *name; size_t at; } wanted[] = {
        {"PMIx_server_init", offsetof(__typeof__(pmix), init)},
        {"PMIx_server_register_nspace", offsetof(__typeof__(pmix), nspace)},
        {"PMIx_server_register_client", offsetof(__typeof__(pmix), client)},
        {"PMIx_server_setup_fork", offsetof(__typeof__(pmix), fork_environment)},
        {"PMIx_generate_regex", offsetof(__typeof__(pmix), regex)},
        {"PMIx_generate_ppn", offsetof(__typeof__(pmix), ppn)},
        {"PMIx_server_dmodex_request", offsetof(__typeof__(pmix), dmodex)},
        {"PMIx_Error_string", offsetof(__typeof__(pmix), error)},
    };
    /* Global: the library's own plugins look for its symbols. */
    void *handle = dlopen(library, RTLD_NOW | RTLD_GLOBAL);
    if (!handle) fail(library, dlerror());
    for (size_t i = 0; i < sizeof wanted / sizeof *wanted; i++) {
        void *function = dlsym(handle, wanted[i].name);
        if (!function) fail(library, dlerror());
        memcpy((char *)&pmix + wanted[i].at, &function, sizeof function);
    }
}

/* ---- frames ---- */

static atomic_flag writing = ATOMIC_FLAG_INIT;

static void write_all(const void *bytes, size_t count)
{
    while (count) {
        ssize_t n = write(AGENT, bytes, count);
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0) _exit(1); /* the agent has gone, and the job with it */
        bytes = (const char *)bytes + n;
        count -= (size_t)n;
    }
}

static void number(unsigned char *at, uint32_t value)
{
    for (int i = 0; i < 4; i++) at[i] = (unsigned char)(value >> 8 * i);
}

static uint32_t read_number(const unsigned char *at)
{
    return at[0] | (uint32_t)at[1] << 8 | (uint32_t)at[2] << 16 | (uint32_t)at[3] << 24;
}

/* Callbacks run on the library's thread, so frames are written one at a time. `word`, where there is one,
 * stands in front of the data. */
static void send_frame(char kind, uint32_t whom, const uint32_t *word, const void *data, size_t size)
{
    unsigned char head[16];
    number(head, (uint32_t)((word ? 4 : 0) + size));
    number(head + 4, (unsigned char)kind);
    number(head + 8, whom);
    if (word) number(head + 12, *word);
    while (atomic_flag_test_and_set(&writing)) usleep(50);
    write_all(head, word ? 16 : 12);
    write_all(data, size);
    atomic_flag_clear(&writing);
}

/* False at the end of the socket. */
static int read_all(void *bytes, size_t count)
{
    while (count) {
        ssize_t n = read(AGENT, bytes, count);
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0) return 0;
        bytes = (char *)bytes + n;
        count -= (size_t)n;
    }
    return 1;
}

/* ---- what waits for the agent's answer ---- */

struct waiting {
    struct waiting *next;
    uint32_t ticket;
    pmix_modex_cbfunc_t done;
    void *data;
};
static struct waiting *all_waiting;
static atomic_flag waiting_lock = ATOMIC_FLAG_INIT;
static uint32_t last_ticket; /* 0 is the fence's */

static uint32_t await(uint32_t ticket, pmix_modex_cbfunc_t done, void *data)
{
    struct waiting *entry = calloc(1, sizeof *entry);
    if (!entry) _exit(1);
    while (atomic_flag_test_and_set(&waiting_lock)) usleep(50);
    *entry = (struct waiting){all_waiting, ticket ? ++last_ticket : 0, done, data};
    all_waiting = entry;
    ticket = entry->ticket;
    atomic_flag_clear(&waiting_lock);
    return ticket;
}

static void answer(uint32_t ticket, pmix_status_t status, void *bytes, size_t count)
{
    while (atomic_flag_test_and_set(&waiting_lock)) usleep(50);
    struct waiting **place = &all_waiting, *entry;
    while (*place && (*place)->ticket != ticket) place = &(*place)->next;
    entry = *place;
    if (entry) *place = entry->next;
    atomic_flag_clear(&waiting_lock);
    if (entry && entry->done) entry->done(status, bytes, count, entry->data, free, bytes);
    else free(bytes);
    free(entry);
}

/* ---- callbacks of the library ---- */

static const char *nspace;
static uint32_t job_size;

/* A fence of the whole job goes over all nodes. One of a part of it, which no MPI start makes, is refused
 * rather than answered wrongly. */
static pmix_status_t on_fence(
    const pmix_proc_t procs[], size_t count, const pmix_info_t info[], size_t infos, char *data, size_t size,
    pmix_modex_cbfunc_t done, void *token)
{
    (void)info, (void)infos;
    int is_whole = count == job_size;
    for (size_t i = 0; i < count && !is_whole; i++) is_whole = procs[i].rank == PMIX_RANK_WILDCARD;
    if (!is_whole) return PMIX_ERR_NOT_SUPPORTED;
    await(0, done, token);
    send_frame('F', 0, NULL, data, size);
    free(data);
    return PMIX_SUCCESS;
}

static pmix_status_t on_direct_modex(
    const pmix_proc_t *proc, const pmix_info_t info[], size_t infos, pmix_modex_cbfunc_t done, void *token)
{
    (void)info, (void)infos;
    uint32_t ticket = await(1, done, token);
    send_frame('D', ticket, &proc->rank, NULL, 0);
    return PMIX_SUCCESS;
}

static void on_local_modex(pmix_status_t status, char *data, size_t size, void *token)
{
    uint32_t word = (uint32_t)status;
    send_frame('d', (uint32_t)(uintptr_t)token, &word, data, size);
}

/* Fences of ranks that are all here never come to `on_fence`. */
static pmix_status_t on_connected(const pmix_proc_t *proc, void *object, pmix_op_cbfunc_t done, void *token)
{
    (void)object;
    send_frame('C', proc->rank, NULL, NULL, 0);
    if (done) done(PMIX_SUCCESS, token);
    return PMIX_SUCCESS;
}

static pmix_status_t on_finalized(const pmix_proc_t *proc, void *object, pmix_op_cbfunc_t done, void *token)
{
    (void)proc, (void)object;
    if (done) done(PMIX_SUCCESS, token);
    return PMIX_SUCCESS;
}

static pmix_status_t on_abort(
    const pmix_proc_t *proc, void *object, int status, const char message[], pmix_proc_t procs[], size_t count,
    pmix_op_cbfunc_t done, void *token)
{
    (void)object, (void)procs, (void)count;
    uint32_t code = (uint32_t)status;
    send_frame('A', proc->rank, &code, message, message ? strlen(message) : 0);
    if (done) done(PMIX_SUCCESS, token);
    return PMIX_SUCCESS;
}

/* ---- the job, as its ranks will see it ---- */

struct list {
    pmix_info_t *items;
    size_t count;
};

static pmix_value_t *add(struct list *list, const char *key, pmix_data_type_t type)
{
    list->items = realloc(list->items, (list->count + 1) * sizeof *list->items);
    if (!list->items) fail("memory", strerror(ENOMEM));
    pmix_info_t *item = &list->items[list->count++];
    memset(item, 0, sizeof *item);
    strncpy(item->key, key, PMIX_MAX_KEYLEN);
    item->value.type = type;
    return &item->value;
}
static void add_count(struct list *list, const char *key, uint32_t value)
{
    add(list, key, PMIX_UINT32)->data.uint32 = value;
}
static void add_rank(struct list *list, const char *key, uint32_t value)
{
    add(list, key, PMIX_PROC_RANK)->data.rank = value;
}
static void add_short(struct list *list, const char *key, uint32_t value)
{
    add(list, key, PMIX_UINT16)->data.uint16 = (uint16_t)value;
}
static void add_text(struct list *list, const char *key, const char *value)
{
    add(list, key, PMIX_STRING)->data.string = strdup(value);
}

/* Word number `index` of a comma-separated list; NULL behind the last. */
static char *word(const char *text, uint32_t index)
{
    while (index-- > 0) {
        text = strchr(text, ',');
        if (!text++) return NULL;
    }
    return strndup(text, strcspn(text, ","));
}

struct job {
    uint32_t node, nodes, first, here;
    const char *names, *counts, *directory;
};

static void add_place(struct list *list, const struct job *job, uint32_t rank, uint32_t node, uint32_t local)
{
    struct list of_rank = {0};
    char *name = word(job->names, node);
    add_rank(&of_rank, PMIX_RANK, rank);
    add_rank(&of_rank, PMIX_GLOBAL_RANK, rank);
    add_rank(&of_rank, PMIX_APP_RANK, rank);
    add_rank(&of_rank, PMIX_APPLDR, 0);
    add_count(&of_rank, PMIX_APPNUM, 0);
    add_short(&of_rank, PMIX_LOCAL_RANK, local);
    add_short(&of_rank, PMIX_NODE_RANK, local);
    add_count(&of_rank, PMIX_NODEID, node);
    add_text(&of_rank, PMIX_HOSTNAME, name);
    free(name);
    pmix_data_array_t *array = calloc(1, sizeof *array);
    if (!array) fail("memory", strerror(ENOMEM));
    *array = (pmix_data_array_t){.type = PMIX_INFO, .size = of_rank.count, .array = of_rank.items};
    add(list, PMIX_PROC_DATA, PMIX_DATA_ARRAY)->data.darray = array;
}

/* "0,1;2,3": the ranks of each node. */
static char *ranks_of_nodes(const struct job *job)
{
    char *text = malloc((size_t)job_size * 11 + job->nodes + 1), *end = text;
    if (!text) fail("memory", strerror(ENOMEM));
    *end = 0;
    for (uint32_t node = 0, rank = 0; node < job->nodes; node++) {
        char *count = word(job->counts, node);
        if (node) *end++ = ';';
        for (int i = atoi(count); i > 0; i--) end += sprintf(end, i > 1 ? "%u," : "%u", rank++);
        free(count);
    }
    return text;
}

static void describe(struct list *list, const struct job *job)
{
    char *regex = NULL, *ppn = NULL, *ranks = ranks_of_nodes(job);
    check("PMIx_generate_regex", pmix.regex(job->names, &regex));
    check("PMIx_generate_ppn", pmix.ppn(ranks, &ppn));
    /* Maps come first: the library needs them to take in the rest. */
    add_text(list, PMIX_NODE_MAP, regex);
    add_text(list, PMIX_PROC_MAP, ppn);
    add(list, PMIX_SPAWNED, PMIX_BOOL)->data.flag = 0;
    add_count(list, PMIX_UNIV_SIZE, job_size);
    add_count(list, PMIX_JOB_SIZE, job_size);
    add_count(list, PMIX_MAX_PROCS, job_size);
    add_count(list, PMIX_JOB_NUM_APPS, 1);
    add_count(list, PMIX_NUM_NODES, job->nodes);
    add_count(list, PMIX_LOCAL_SIZE, job->here);
    add_count(list, PMIX_NODE_SIZE, job->here);
    add_count(list, PMIX_NODEID, job->node);
    add_rank(list, PMIX_LOCALLDR, job->first);
    add_text(list, PMIX_TMPDIR, job->directory);
    add_text(list, PMIX_NSDIR, job->directory);
    char *peers = malloc((size_t)job->here * 11 + 1), *end = peers;
    if (!peers) fail("memory", strerror(ENOMEM));
    *end = 0;
    for (uint32_t i = 0; i < job->here; i++) end += sprintf(end, i ? ",%u" : "%u", job->first + i);
    add_text(list, PMIX_LOCAL_PEERS, peers);
    free(peers);
    for (uint32_t node = 0, rank = 0; node < job->nodes; node++) {
        char *count = word(job->counts, node);
        uint32_t here = (uint32_t)atoi(count);
        for (uint32_t local = 0; local < here; local++) add_place(list, job, rank++, node, local);
        free(count);
    }
    free(ranks);
}

/* ---- registration ---- */

static atomic_int result;
static int finished[2];

static void on_done(pmix_status_t status, void *token)
{
    (void)token;
    atomic_store(&result, status);
    (void)!write(finished[1], "", 1);
}

static void await_done(const char *what, pmix_status_t status)
{
    char byte;
    if (status == PMIX_SUCCESS) {
        while (read(finished[0], &byte, 1) < 0 && errno == EINTR) {}
        status = atomic_load(&result);
    }
    check(what, status);
}

static pmix_proc_t process(uint32_t rank)
{
    pmix_proc_t proc;
    memset(&proc, 0, sizeof proc);
    strncpy(proc.nspace, nspace, PMIX_MAX_NSLEN);
    proc.rank = rank;
    return proc;
}

static void begin(const struct job *job)
{
    /* A later release reads a longer table than this header knows: the rest of it is empty. */
    static union {
        pmix_server_module_t module;
        void *room[256];
    } callbacks;
    callbacks.module.client_connected = on_connected;
    callbacks.module.client_finalized = on_finalized;
    callbacks.module.abort = on_abort;
    callbacks.module.fence_nb = on_fence;
    callbacks.module.direct_modex = on_direct_modex;
    struct list about = {0}, described = {0};
    /* Long maps would be compressed to bytes that are no text, which releases pass on differently. */
    setenv("PMIX_MCA_preg", "^compress", 1);
    /* No shared memory: what clients need is small, and a killed server would leave its files. */
    setenv("PMIX_MCA_gds", "hash", 1);
    char *name = word(job->names, job->node);
    add_text(&about, PMIX_SERVER_TMPDIR, job->directory);
    add_text(&about, PMIX_SYSTEM_TMPDIR, job->directory);
    add_text(&about, PMIX_HOSTNAME, name);
    free(name);
    check("PMIx_server_init", pmix.init(&callbacks.module, about.items, about.count));
    if (pipe(finished)) fail("pipe", strerror(errno));
    describe(&described, job);
    await_done(
        "PMIx_server_register_nspace",
        pmix.nspace(nspace, (int)job->here, described.items, described.count, on_done, NULL));
    for (uint32_t i = 0; i < job->here; i++) {
        pmix_proc_t proc = process(job->first + i);
        char **environment = NULL;
        await_done("PMIx_server_register_client", pmix.client(&proc, getuid(), getgid(), NULL, on_done, NULL));
        check("PMIx_server_setup_fork", pmix.fork_environment(&proc, &environment));
        size_t size = 0;
        for (char **entry = environment; entry && *entry; entry++) size += strlen(*entry) + 1;
        char *joined = malloc(size + 1), *end = joined;
        if (!joined) fail("memory", strerror(ENOMEM));
        for (char **entry = environment; entry && *entry; entry++) end = stpcpy(end, *entry) + 1;
        send_frame('E', proc.rank, NULL, joined, size);
        free(joined);
    }
    send_frame('R', 0, NULL, NULL, 0);
}

static void serve(void)
{
    unsigned char head[12];
    while (read_all(head, sizeof head)) {
        uint32_t size = read_number(head), kind = read_number(head + 4), ticket = read_number(head + 8);
        if (size > MOST) return;
        unsigned char *content = malloc((size_t)size + 1);
        if (!content || !read_all(content, size)) return;
        if (kind == 'F') {
            answer(0, PMIX_SUCCESS, content, size);
        } else if (kind == 'd' && size >= 4) {
            pmix_status_t status = (pmix_status_t)read_number(content);
            memmove(content, content + 4, size - 4);
            answer(ticket, status, content, size - 4);
        } else if (kind == 'D' && size == 4) {
            pmix_proc_t proc = process(read_number(content));
            pmix_status_t status = pmix.dmodex(&proc, on_local_modex, (void *)(uintptr_t)ticket);
            if (status != PMIX_SUCCESS) on_local_modex(status, NULL, 0, (void *)(uintptr_t)ticket);
            free(content);
        } else {
            return;
        }
    }
}

int main(int argc, char **argv)
{
    if (argc != 7) {
        fprintf(stderr, "usage: trireme-pmix LIBRARY NAMESPACE NODE NAMES RANKS TMPDIR\n");
        return 2;
    }
    // A program of the host among the container's ranks: what it is, holds and knows is not theirs.
    prctl(PR_SET_DUMPABLE, 0);
    struct job job = {.node = (uint32_t)atoi(argv[3]), .names = argv[4], .counts = argv[5], .directory = argv[6]};
    nspace = argv[2];
    for (char *count; (count = word(job.counts, job.nodes)); free(count)) {
        if (job.nodes < job.node) job.first += (uint32_t)atoi(count);
        if (job.nodes == job.node) job.here = (uint32_t)atoi(count);
        job_size += (uint32_t)atoi(count);
        job.nodes++;
    }
    load(argv[1]);
    begin(&job);
    serve();
    /* Nothing to tidy: its files are in the container's private memory. */
    _exit(0);
}
