/* Runs CUDA kernels on the host: one block after the other, its threads as fibers that run from one
 * barrier or warp operation to the next, in an order that the test chooses. What a block shares is
 * poisoned before it starts; guard words stand behind every array. */
#include "tests/executor/executor_internal.hpp"

#include <stdarg.h>
#include <stdlib.h>
#include <string>
#include <sys/mman.h>
#include <vector>

executor_place executor_now;

namespace
{
enum state { READY, WAITING, DONE };
enum { SHARED_MOST = 227 * 1024, STATIC_MOST = 48 * 1024, GUARD = 64, LANES = 32 };
const unsigned char GUARD_BYTE = 0xC5;

struct site {
    const char *file;
    int line;
    const char *what;
    std::string text;
};

struct pending_copy {
    void *to;
    const void *from;
    int bytes, size;
};

/* A warp operation that some lanes have reached. */
struct meeting {
    bool open, finished;
    const char *what, *file;
    int line;
    unsigned mask, arrived, left;
    executor_lane lanes[LANES];
};

struct thread {
    executor_fiber fiber;
    state now;
    uint3 index;
    unsigned number;
    const char *waits_at, *file; /* for messages */
    int line;
    std::vector<pending_copy> copies;
    std::vector<size_t> groups; /* copies in each committed group, oldest first */
    size_t uncommitted;
};

struct array {
    const void *declaration;
    size_t at, bytes;
};

struct machine {
    std::vector<thread> threads; /* kept between blocks: their stacks are */
    unsigned count;              /* of this block */
    thread *running;
    const std::function<void()> *body;
    const char *kernel;
    std::string error; /* of this launch */

    /* The block's barrier. */
    unsigned arrived, votes;
    const char *barrier_file, *barrier_what;
    int barrier_line, vote_result;
    std::vector<meeting> meetings; /* [warp][LANES] */

    unsigned char *shared; /* dynamic, then arrays as they are declared */
    std::vector<array> arrays;
    size_t shared_used, dynamic_bytes;

    std::vector<site> sites;
    int ignored = -1, order = 0;
    uint64_t random;
    executor_counts counts;
};

machine &m = *new machine(); /* never destroyed: fibers may outlive main */

/* ---- messages ------------------------------------------------------------------------------ */

std::string format(const char *text, va_list args)
{
    char line[512];
    vsnprintf(line, sizeof line, text, args);
    return line;
}

std::string name_of(const thread &t)
{
    char line[128];
    snprintf(line, sizeof line, "block (%u,%u,%u) thread (%u,%u,%u)", executor_now.block.x,
             executor_now.block.y, executor_now.block.z, t.index.x, t.index.y, t.index.z);
    return line;
}

std::string wait_of(const thread &t)
{
    char line[256];
    snprintf(line, sizeof line, "waits at %s (%s:%d)", t.waits_at, t.file, t.line);
    return line;
}

/* ---- orders -------------------------------------------------------------------------------- */

uint64_t random_word()
{
    m.random ^= m.random << 13;
    m.random ^= m.random >> 7;
    m.random ^= m.random << 17;
    return m.random;
}

void put_in_order(std::vector<unsigned> &order)
{
    const size_t n = order.size();
    for (size_t i = 0; i < n; i++)
        order[i] = static_cast<unsigned>(m.order == 1 ? n - 1 - i : i);
    for (size_t i = n; m.order > 1 && i > 1; i--)
        std::swap(order[i - 1], order[random_word() % i]);
}

/* ---- threads ------------------------------------------------------------------------------- */

void run_thread()
{
    (*m.body)();
    thread &t = *m.running;
    if (!t.copies.empty())
        m.error = name_of(t) + " ends before it has waited for its asynchronous copies";
    t.now = DONE;
    executor_fiber_leave(&t.fiber, true);
    abort();
}

void resume(thread &t)
{
    m.running = &t;
    m.counts.switches++;
    executor_now.thread = t.index;
    executor_now.lane = t.number % LANES;
    executor_fiber_enter(&t.fiber);
}

void wait_here(const char *what, const char *file, int line)
{
    thread &t = *m.running;
    t.now = WAITING;
    t.waits_at = what;
    t.file = file;
    t.line = line;
    executor_fiber_leave(&t.fiber, false);
}

int site_of(const char *what, const char *file, int line)
{
    for (size_t i = 0; i < m.sites.size(); i++)
        if (m.sites[i].line == line && strcmp(m.sites[i].file, file) == 0)
            return static_cast<int>(i);
    m.sites.push_back(
        {file, line, what, std::string(file) + ":" + std::to_string(line) + " " + what});
    return static_cast<int>(m.sites.size()) - 1;
}

/* ---- blocks -------------------------------------------------------------------------------- */

/* Behind a launch's arrays; poison differs between orders, so that none can look right in all. */
void *carve(size_t bytes)
{
    size_t at = (m.shared_used + 127) / 128 * 128;
    memset(m.shared + m.shared_used, GUARD_BYTE, at - m.shared_used);
    memset(m.shared + at, m.order % 2 ? 0x7F : 0xFF, bytes);
    memset(m.shared + at + bytes, GUARD_BYTE, GUARD);
    m.shared_used = at + bytes + GUARD;
    return m.shared + at;
}

void check_guards()
{
    for (const array &a : m.arrays)
        for (size_t i = 0; i < GUARD; i++)
            if (m.shared[a.at + a.bytes + i] != GUARD_BYTE && m.error.empty())
                m.error = "block (" + std::to_string(executor_now.block.x) + "," +
                          std::to_string(executor_now.block.y) + "," +
                          std::to_string(executor_now.block.z) + ") wrote " + std::to_string(i) +
                          " bytes behind a shared array of " + std::to_string(a.bytes) + " bytes";
}

/* Nobody can run: says who waits where, and for whom. */
void explain_standstill()
{
    const thread *waiting = nullptr, *other = nullptr;
    for (unsigned i = 0; i < m.count; i++)
        if (m.threads[i].now == WAITING && !waiting)
            waiting = &m.threads[i];
    if (!waiting)
        return;
    for (unsigned i = 0; i < m.count && !other; i++)
        if (m.threads[i].now == DONE || m.threads[i].line != waiting->line ||
            strcmp(m.threads[i].waits_at, waiting->waits_at) != 0)
            other = &m.threads[i];
    m.error = name_of(*waiting) + " " + wait_of(*waiting);
    if (other)
        m.error += ", but thread (" + std::to_string(other->index.x) + "," +
                   std::to_string(other->index.y) + "," + std::to_string(other->index.z) + ") " +
                   (other->now == DONE ? "has ended" : wait_of(*other));
    else
        m.error += " for lanes that its mask names and the block lacks";
}

void run_block(dim3 threads, size_t dynamic_bytes)
{
    m.shared_used = 0;
    m.arrays.clear();
    m.dynamic_bytes = dynamic_bytes;
    carve(dynamic_bytes);
    m.arrays.push_back({nullptr, 0, dynamic_bytes});
    m.arrived = m.votes = 0;
    for (unsigned i = 0; i < m.count; i++)
        m.meetings[i].open = false;
    for (unsigned i = 0; i < m.count; i++) {
        thread &t = m.threads[i];
        t.now = READY;
        t.number = i;
        t.index = {i % threads.x, i / threads.x % threads.y, i / (threads.x * threads.y)};
        t.copies.clear();
        t.groups.clear();
        t.uncommitted = 0;
        executor_fiber_start(&t.fiber, run_thread);
    }
    m.counts.blocks++;
    m.counts.threads += m.count;
    std::vector<unsigned> order(m.count);
    put_in_order(order);
    unsigned done = 0;
    for (bool moved = true; moved && m.error.empty();) {
        moved = false;
        for (unsigned i : order) {
            thread &t = m.threads[i];
            if (t.now != READY)
                continue;
            moved = true;
            resume(t);
            if (!m.error.empty())
                return;
            done += t.now == DONE;
        }
        if (m.order > 1)
            put_in_order(order);
    }
    if (m.error.empty() && done < m.count)
        explain_standstill();
    check_guards();
}
} // namespace

bool executor_run_kernel(std::string *error, const char *name, dim3 grid, dim3 block,
                         size_t dynamic_bytes, const std::function<void()> &body)
{
    if (!m.shared) /* room for padding and guards beside the arrays */
        m.shared = static_cast<unsigned char *>(aligned_alloc(128, 512 * 1024));
    m.count = block.x * block.y * block.z;
    if (m.threads.size() < m.count) {
        m.threads.resize(1024);
        m.meetings.resize(1024); /* as many a warp as it has lanes */
    }
    m.kernel = name;
    m.body = &body;
    m.error.clear();
    m.random = 88172645463325252ull + static_cast<uint64_t>(m.order) * 0x9E3779B97F4A7C15ull;
    m.counts.launches++;
    executor_now.threads = block;
    executor_now.blocks = grid;
    const size_t blocks = static_cast<size_t>(grid.x) * grid.y * grid.z;
    std::vector<unsigned> order(blocks);
    put_in_order(order);
    for (size_t i = 0; i < blocks && m.error.empty(); i++) {
        executor_now.block = {order[i] % grid.x, order[i] / grid.x % grid.y,
                              order[i] / (grid.x * grid.y)};
        run_block(block, dynamic_bytes);
    }
    *error = m.error.empty() ? "" : std::string("kernel ") + name + ": " + m.error;
    return m.error.empty();
}

/* ---- what kernels call --------------------------------------------------------------------- */

void executor_refuse(const char *text, ...)
{
    va_list args;
    va_start(args, text);
    m.error = name_of(*m.running) + ": " + format(text, args);
    va_end(args);
    m.running->now = DONE;
    executor_fiber_leave(&m.running->fiber, true);
    abort();
}

void *executor_dynamic_shared(void)
{
    return m.shared;
}

void *executor_shared(const void *declaration, size_t bytes)
{
    size_t fixed = bytes;
    for (const array &a : m.arrays) {
        if (a.declaration == declaration)
            return m.shared + a.at;
        fixed += a.declaration ? a.bytes : 0;
    }
    if (fixed > STATIC_MOST)
        executor_refuse("%zu bytes of static shared memory are more than 48 KiB", fixed);
    if (fixed + m.dynamic_bytes > SHARED_MOST)
        executor_refuse("%zu bytes of shared memory are more than a block has",
                        fixed + m.dynamic_bytes);
    unsigned char *at = static_cast<unsigned char *>(carve(bytes));
    m.arrays.push_back({declaration, static_cast<size_t>(at - m.shared), bytes});
    return at;
}

int executor_block_barrier(const char *what, bool predicate, int mode, const char *file, int line)
{
    if (mode == 0 && site_of(what, file, line) == m.ignored)
        return 0;
    if (m.arrived == 0) {
        m.barrier_file = file;
        m.barrier_line = line;
        m.barrier_what = what;
        m.votes = 0;
    } else if (m.barrier_line != line || strcmp(m.barrier_file, file) != 0) {
        executor_refuse("is at %s (%s:%d) while others wait at %s (%s:%d)", what, file, line,
                        m.barrier_what, m.barrier_file, m.barrier_line);
    }
    m.votes += predicate;
    if (++m.arrived < m.count) {
        wait_here(what, file, line);
        return m.vote_result;
    }
    m.arrived = 0;
    m.vote_result = static_cast<int>(mode == 1   ? m.votes
                                     : mode == 2 ? m.votes == m.count
                                                 : m.votes > 0);
    for (unsigned i = 0; i < m.count; i++)
        if (m.threads[i].now == WAITING)
            m.threads[i].now = READY;
    m.running->now = READY;
    return m.vote_result;
}

void executor_collective(const char *what, unsigned mask, const void *in, size_t in_bytes,
                         void *out, size_t out_bytes, executor_finish *finish, const char *file,
                         int line)
{
    thread &t = *m.running;
    const unsigned lane = t.number % LANES, bit = 1u << lane, first = t.number - lane;
    if (!(mask & bit))
        executor_refuse("%s (%s:%d): lane %u is not in its own mask %08x", what, file, line, lane,
                        mask);
    meeting *here = nullptr, *unused = nullptr, *warp = &m.meetings[first];
    for (meeting *one = warp; one < warp + LANES; one++) {
        if (!one->open)
            unused = unused ? unused : one;
        else if (!one->finished && one->mask == mask && one->what == what && one->line == line &&
                 strcmp(one->file, file) == 0 && !(one->arrived & bit))
            here = one;
    }
    if (!here) {
        here = unused;
        here->open = true;
        here->finished = false;
        here->what = what;
        here->file = file;
        here->line = line;
        here->mask = mask;
        here->arrived = here->left = 0;
    }
    memcpy(here->lanes[lane].in, in, in_bytes);
    here->arrived |= bit;
    if (here->arrived != mask) {
        wait_here(what, file, line);
    } else {
        finish(here->lanes, mask);
        here->finished = true;
        for (unsigned i = 0; i < LANES; i++)
            if ((mask & ~bit) >> i & 1)
                m.threads[first + i].now = READY;
    }
    memcpy(out, here->lanes[lane].out, out_bytes);
    here->left |= bit;
    here->open = here->left != mask;
}

static void meet(executor_lane *, unsigned) {}

void executor_warp_barrier(unsigned mask, const char *file, int line)
{
    if (site_of("__syncwarp", file, line) == m.ignored)
        return;
    char nothing = 0;
    executor_collective("__syncwarp", mask, &nothing, 1, &nothing, 1, meet, file, line);
}

void executor_copy_later(void *shared, const void *global, int bytes, int size)
{
    if (reinterpret_cast<uintptr_t>(shared) % static_cast<unsigned>(size) ||
        reinterpret_cast<uintptr_t>(global) % static_cast<unsigned>(size) || bytes < 0 ||
        bytes > size)
        executor_refuse("cp.async of %d of %d bytes: sides must be aligned to the size", bytes,
                        size);
    memset(shared, 0xFF, static_cast<size_t>(size)); /* what is read too early is wrong */
    m.running->copies.push_back({shared, global, bytes, size});
    m.running->uncommitted++;
}

void executor_copy_commit(void)
{
    m.running->groups.push_back(m.running->uncommitted);
    m.running->uncommitted = 0;
}

void executor_copy_wait(int left, const char *file, int line)
{
    thread &t = *m.running;
    const bool ignored = site_of("cp.async.wait_group", file, line) == m.ignored;
    while (t.groups.size() > static_cast<size_t>(left)) {
        const auto end = t.copies.begin() + static_cast<std::ptrdiff_t>(t.groups.front());
        for (auto copy = t.copies.begin(); copy != end && !ignored; copy++) {
            memcpy(copy->to, copy->from, static_cast<size_t>(copy->bytes));
            memset(static_cast<char *>(copy->to) + copy->bytes, 0,
                   static_cast<size_t>(copy->size - copy->bytes));
        }
        t.copies.erase(t.copies.begin(), end);
        t.groups.erase(t.groups.begin());
    }
}

/* ---- what tests call ----------------------------------------------------------------------- */

bool executor_present(void)
{
    return true;
}

int executor_orders(void)
{
    return 5;
}

void executor_set_order(int order)
{
    m.order = order;
}

int executor_barriers(void)
{
    return static_cast<int>(m.sites.size());
}

const char *executor_barrier(int index)
{
    return m.sites[static_cast<size_t>(index)].text.c_str();
}

void executor_ignore_barrier(int index)
{
    m.ignored = index;
}

void executor_forget_barriers(void)
{
    m.sites.clear();
    m.ignored = -1;
}

executor_counts executor_count(void)
{
    executor_counts counts = m.counts;
    counts.allocations = executor_allocations;
    counts.waits = executor_waits;
    return counts;
}
