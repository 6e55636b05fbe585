/* Fibers: a switch of a few nanoseconds on x86-64, ucontext (two system calls a switch) elsewhere. */
#include "tests/executor/executor_internal.hpp"

#include <stdlib.h>
#include <sys/mman.h>
#if !defined(__x86_64__)
#include <ucontext.h>
#endif

#if defined(__SANITIZE_ADDRESS__)
#define EXECUTOR_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define EXECUTOR_ASAN 1
#endif
#endif
#ifdef EXECUTOR_ASAN
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif

#ifdef EXECUTOR_ASAN
enum { STACK = 1 << 18 }; /* red zones around every local */
#else
enum { STACK = 1 << 16 };
#endif
enum { PAGE = 4096 };

static void (*fiber_body)();

/* A fiber that was left for good leaves its red zones behind. */
static void forget_frames(executor_fiber *f)
{
#ifdef EXECUTOR_ASAN
    __asan_unpoison_memory_region(static_cast<char *>(f->stack) + PAGE, STACK - PAGE);
#else
    (void)f;
#endif
}

static void make_stack(executor_fiber *f)
{
    if (f->stack) {
        forget_frames(f);
        return;
    }
    void *at = mmap(nullptr, STACK, PROT_READ | PROT_WRITE,
                    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (at == MAP_FAILED || mprotect(at, PAGE, PROT_NONE) != 0) {
        perror("executor: no memory for the stack of a thread");
        abort();
    }
    f->stack = at;
}

/* ---- ASan wants to know which stack is in use ---------------------------------------------- */

#ifdef EXECUTOR_ASAN
static void *scheduler_fake;
static const void *scheduler_bottom;
static size_t scheduler_size;

static void before_enter(executor_fiber *f)
{
    __sanitizer_start_switch_fiber(&scheduler_fake, static_cast<char *>(f->stack) + PAGE,
                                   STACK - PAGE);
}
static void after_enter()
{
    __sanitizer_finish_switch_fiber(scheduler_fake, nullptr, nullptr);
}
static void before_leave(executor_fiber *f, bool last)
{
    __sanitizer_start_switch_fiber(last ? nullptr : &f->sanitizer, scheduler_bottom,
                                   scheduler_size);
}
static void on_fiber(void *fake)
{
    __sanitizer_finish_switch_fiber(fake, &scheduler_bottom, &scheduler_size);
}
#else
static void before_enter(executor_fiber *) {}
static void after_enter() {}
static void before_leave(executor_fiber *, bool) {}
static void on_fiber(void *) {}
#endif

static void fiber_main()
{
    on_fiber(nullptr);
    fiber_body();
    abort();
}

/* ---- the switch ---------------------------------------------------------------------------- */

#if defined(__x86_64__)
/* Saves what a function must keep, stores the stack pointer, goes on at another. */
extern "C" void executor_switch(void **from, void *to);
asm(R"(
    .text
    .p2align 4
    .type executor_switch, @function
executor_switch:
    pushq %rbp
    pushq %rbx
    pushq %r12
    pushq %r13
    pushq %r14
    pushq %r15
    movq %rsp, (%rdi)
    movq %rsi, %rsp
    popq %r15
    popq %r14
    popq %r13
    popq %r12
    popq %rbx
    popq %rbp
    ret
    .size executor_switch, .-executor_switch
)");

static void *scheduler;

void executor_fiber_start(executor_fiber *f, void (*body)())
{
    make_stack(f);
    fiber_body = body;
    /* As if fiber_main had been called: six saved registers, where to go, no return address. */
    void **top = reinterpret_cast<void **>(static_cast<char *>(f->stack) + STACK) - 3;
    *top = nullptr;
    *--top = reinterpret_cast<void *>(fiber_main);
    for (int i = 0; i < 6; i++)
        *--top = nullptr;
    f->context = top;
    f->sanitizer = nullptr;
}

void executor_fiber_enter(executor_fiber *f)
{
    before_enter(f);
    executor_switch(&scheduler, f->context);
    after_enter();
}

void executor_fiber_leave(executor_fiber *f, bool last)
{
    before_leave(f, last);
    executor_switch(&f->context, scheduler);
    on_fiber(f->sanitizer);
}
#else
static ucontext_t scheduler;

void executor_fiber_start(executor_fiber *f, void (*body)())
{
    make_stack(f);
    fiber_body = body;
    if (!f->context)
        f->context = malloc(sizeof(ucontext_t));
    ucontext_t *context = static_cast<ucontext_t *>(f->context);
    if (!context || getcontext(context) != 0)
        abort();
    context->uc_stack.ss_sp = static_cast<char *>(f->stack) + PAGE;
    context->uc_stack.ss_size = STACK - PAGE;
    context->uc_link = nullptr;
    makecontext(context, fiber_main, 0);
    f->sanitizer = nullptr;
}

void executor_fiber_enter(executor_fiber *f)
{
    before_enter(f);
    if (swapcontext(&scheduler, static_cast<ucontext_t *>(f->context)) != 0)
        abort();
    after_enter();
}

void executor_fiber_leave(executor_fiber *f, bool last)
{
    before_leave(f, last);
    if (swapcontext(static_cast<ucontext_t *>(f->context), &scheduler) != 0)
        abort();
    on_fiber(f->sanitizer);
}
#endif
