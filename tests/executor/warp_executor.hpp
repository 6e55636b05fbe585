/* Warp operations of the host executor: all lanes of the mask bring their operands, the last one
 * computes the results of all. Tensor-core operations follow the lane layouts of the PTX manual. */
#ifndef OHM_TESTS_WARP_EXECUTOR_HPP
#define OHM_TESTS_WARP_EXECUTOR_HPP

#include "tests/executor/device_executor.hpp"

struct executor_lane {
    alignas(16) unsigned char in[80];
    alignas(16) unsigned char out[64];
};
/* lanes[32], of which those of mask hold operands. */
typedef void executor_finish(executor_lane *lanes, unsigned mask);
void executor_collective(const char *what, unsigned mask, const void *in, size_t in_bytes,
                         void *out, size_t out_bytes, executor_finish *finish, const char *file,
                         int line);

template <class Out, class In>
static inline Out executor_together(const char *what, unsigned mask, const In &in,
                                    executor_finish *finish, const char *file, int line)
{
    static_assert(sizeof(In) <= sizeof executor_lane::in &&
                      sizeof(Out) <= sizeof executor_lane::out,
                  "operands fit a lane");
    Out out;
    executor_collective(what, mask, &in, sizeof in, &out, sizeof out, finish, file, line);
    return out;
}
template <class T> static inline T &executor_in(executor_lane *lanes, int lane)
{
    return *reinterpret_cast<T *>(lanes[lane].in);
}
template <class T> static inline T &executor_out(executor_lane *lanes, int lane)
{
    return *reinterpret_cast<T *>(lanes[lane].out);
}

/* ---- shuffles and votes -------------------------------------------------------------------- */

template <class T> struct executor_shuffle {
    T value;
    int from; /* lane whose value is wanted */
};
template <class T> static inline void executor_shuffle_finish(executor_lane *lanes, unsigned mask)
{
    for (int lane = 0; lane < 32; lane++) {
        if (!(mask >> lane & 1))
            continue;
        const int from = executor_in<executor_shuffle<T>>(lanes, lane).from;
        if (!(mask >> from & 1))
            executor_refuse("lane %d shuffles from lane %d, which is not in mask %08x", lane, from,
                            mask);
        executor_out<T>(lanes, lane) = executor_in<executor_shuffle<T>>(lanes, from).value;
    }
}
template <class T>
static inline T executor_shuffled(const char *what, unsigned mask, T value, int from,
                                  const char *file, int line)
{
    return executor_together<T>(what, mask, executor_shuffle<T>{value, from},
                                executor_shuffle_finish<T>, file, line);
}
template <class T>
static inline T __shfl_sync(unsigned mask, T value, int source, int width = 32, EXECUTOR_HERE)
{
    const int lane = static_cast<int>(executor_now.lane), base = lane / width * width;
    return executor_shuffled("__shfl_sync", mask, value, base + (source & (width - 1)), file, line);
}
template <class T>
static inline T __shfl_xor_sync(unsigned mask, T value, int bits, int width = 32, EXECUTOR_HERE)
{
    const int lane = static_cast<int>(executor_now.lane), from = lane ^ bits;
    return executor_shuffled("__shfl_xor_sync", mask, value,
                             from < lane / width * width + width ? from : lane, file, line);
}
template <class T>
static inline T __shfl_down_sync(unsigned mask, T value, unsigned by, int width = 32, EXECUTOR_HERE)
{
    const int lane = static_cast<int>(executor_now.lane), from = lane + static_cast<int>(by);
    return executor_shuffled("__shfl_down_sync", mask, value,
                             from < lane / width * width + width ? from : lane, file, line);
}
template <class T>
static inline T __shfl_up_sync(unsigned mask, T value, unsigned by, int width = 32, EXECUTOR_HERE)
{
    const int lane = static_cast<int>(executor_now.lane), from = lane - static_cast<int>(by);
    return executor_shuffled("__shfl_up_sync", mask, value,
                             from >= lane / width * width ? from : lane, file, line);
}

static inline void executor_ballot_finish(executor_lane *lanes, unsigned mask)
{
    unsigned votes = 0;
    for (int lane = 0; lane < 32; lane++)
        if (mask >> lane & 1 && executor_in<int>(lanes, lane))
            votes |= 1u << lane;
    for (int lane = 0; lane < 32; lane++)
        executor_out<unsigned>(lanes, lane) = votes;
}
static inline unsigned __ballot_sync(unsigned mask, int predicate, EXECUTOR_HERE)
{
    return executor_together<unsigned>("__ballot_sync", mask, predicate != 0 ? 1 : 0,
                                       executor_ballot_finish, file, line);
}
static inline int __any_sync(unsigned mask, int predicate, EXECUTOR_HERE)
{
    return __ballot_sync(mask, predicate, file, line) != 0;
}
static inline int __all_sync(unsigned mask, int predicate, EXECUTOR_HERE)
{
    return __ballot_sync(mask, predicate, file, line) == mask;
}

/* redux.sync: 32-bit integers. */
#define EXECUTOR_REDUCE(name, expression)                                                          \
    template <class T>                                                                             \
    static inline void executor_finish##name(executor_lane *lanes, unsigned mask)                  \
    {                                                                                              \
        bool first = true;                                                                         \
        T a = T();                                                                                 \
        for (int lane = 0; lane < 32; lane++)                                                      \
            if (mask >> lane & 1) {                                                                \
                const T b = executor_in<T>(lanes, lane);                                           \
                a = first ? b : static_cast<T>(expression);                                        \
                first = false;                                                                     \
            }                                                                                      \
        for (int lane = 0; lane < 32; lane++)                                                      \
            executor_out<T>(lanes, lane) = a;                                                      \
    }                                                                                              \
    static inline int name(unsigned mask, int value, EXECUTOR_HERE)                                \
    {                                                                                              \
        return executor_together<int>(#name, mask, value, executor_finish##name<int>, file, line); \
    }                                                                                              \
    static inline unsigned name(unsigned mask, unsigned value, EXECUTOR_HERE)                      \
    {                                                                                              \
        return executor_together<unsigned>(#name, mask, value, executor_finish##name<unsigned>,    \
                                           file, line);                                            \
    }
EXECUTOR_REDUCE(__reduce_add_sync, static_cast<uint32_t>(a) + static_cast<uint32_t>(b))
EXECUTOR_REDUCE(__reduce_max_sync, a > b ? a : b)
EXECUTOR_REDUCE(__reduce_min_sync, a < b ? a : b)
EXECUTOR_REDUCE(__reduce_or_sync, a | b)
EXECUTOR_REDUCE(__reduce_and_sync, a &b)
EXECUTOR_REDUCE(__reduce_xor_sync, a ^ b)
#undef EXECUTOR_REDUCE

/* ---- mma and ldmatrix ---------------------------------------------------------------------- */

template <class Sum> struct executor_mma {
    unsigned a[4], b[2];
    Sum c[4];
};
template <class Sum> struct executor_quad {
    Sum d[4];
};
/* The element of `of` that holds number `at` of a register's elements of `bits` bits. */
static inline int executor_byte(unsigned word, int at)
{
    return static_cast<int8_t>(word >> 8 * at);
}
static inline float executor_half_of(unsigned word, int at)
{
    return __half2float(__ushort_as_half(static_cast<uint16_t>(word >> 16 * at)));
}
static inline float executor_tf32_of(unsigned word, int)
{
    word &= 0xFFFFE000u;
    float value;
    memcpy(&value, &word, sizeof value);
    return value;
}
/* per = elements of a register: 4 bytes (k = 32), 2 halves (k = 16) or a tf32 (k = 8). */
template <class Sum, class Element, int per, Element element(unsigned, int)>
static inline void executor_mma_finish(executor_lane *lanes, unsigned mask)
{
    if (mask != 0xFFFFFFFFu)
        executor_refuse("mma needs all lanes of a warp");
    enum { K = 8 * per };
    Element a[16][K], b[K][8];
    for (int lane = 0; lane < 32; lane++) {
        const executor_mma<Sum> &in = executor_in<executor_mma<Sum>>(lanes, lane);
        const int g = lane / 4, t = lane % 4;
        for (int i = 0; i < per; i++) {
            for (int r = 0; r < 4; r++)
                a[g + r % 2 * 8][r / 2 * 4 * per + t * per + i] = element(in.a[r], i);
            for (int r = 0; r < 2; r++)
                b[r * 4 * per + t * per + i][g] = element(in.b[r], i);
        }
    }
    for (int lane = 0; lane < 32; lane++)
        for (int i = 0; i < 4; i++) {
            const int row = lane / 4 + i / 2 * 8, column = lane % 4 * 2 + i % 2;
            Sum sum = executor_in<executor_mma<Sum>>(lanes, lane).c[i];
            for (int k = 0; k < K; k++)
                sum += a[row][k] * b[k][column];
            executor_out<executor_quad<Sum>>(lanes, lane).d[i] = sum;
        }
}
template <class Sum>
static inline void executor_mma_run(const char *what, Sum (&d)[4], const unsigned (&a)[4],
                                    const unsigned (&b)[2], const Sum (&c)[4],
                                    executor_finish *finish, const char *file, int line)
{
    const executor_mma<Sum> in = {{a[0], a[1], a[2], a[3]}, {b[0], b[1]}, {c[0], c[1], c[2], c[3]}};
    const executor_quad<Sum> out =
        executor_together<executor_quad<Sum>>(what, 0xFFFFFFFFu, in, finish, file, line);
    for (int i = 0; i < 4; i++)
        d[i] = out.d[i];
}
static inline void ohm_mma_s8(int (&d)[4], const unsigned (&a)[4], const unsigned (&b)[2],
                              const int (&c)[4], EXECUTOR_HERE)
{
    executor_mma_run("mma.m16n8k32.s8", d, a, b, c, executor_mma_finish<int, int, 4, executor_byte>,
                     file, line);
}
static inline void ohm_mma_f16(float (&d)[4], const unsigned (&a)[4], const unsigned (&b)[2],
                               const float (&c)[4], EXECUTOR_HERE)
{
    executor_mma_run("mma.m16n8k16.f16", d, a, b, c,
                     executor_mma_finish<float, float, 2, executor_half_of>, file, line);
}
static inline void ohm_mma_tf32(float (&d)[4], const unsigned (&a)[4], const unsigned (&b)[2],
                                const float (&c)[4], EXECUTOR_HERE)
{
    executor_mma_run("mma.m16n8k8.tf32", d, a, b, c,
                     executor_mma_finish<float, float, 1, executor_tf32_of>, file, line);
}

/* A row is read when its lane arrives: what other lanes write without a barrier may come later. */
struct executor_row {
    uint16_t element[8];
};
template <int matrices, bool trans>
static inline void executor_ldmatrix_finish(executor_lane *lanes, unsigned mask)
{
    if (mask != 0xFFFFFFFFu)
        executor_refuse("ldmatrix needs all lanes of a warp");
    for (int i = 0; i < matrices; i++) {
        uint16_t element[8][8];
        for (int r = 0; r < 8; r++)
            memcpy(element[r], executor_in<executor_row>(lanes, 8 * i + r).element,
                   sizeof element[r]);
        for (int lane = 0; lane < 32; lane++) {
            const int g = lane / 4, t = 2 * (lane % 4);
            const unsigned low = trans ? element[t][g] : element[g][t],
                           high = trans ? element[t + 1][g] : element[g][t + 1];
            executor_out<executor_quad<unsigned>>(lanes, lane).d[i] = high << 16 | low;
        }
    }
}
template <int matrices, bool trans>
static inline void executor_ldmatrix(unsigned (&r)[matrices], const void *row, const char *file,
                                     int line)
{
    executor_row mine = {};
    if (executor_now.lane < 8 * matrices) {
        if (reinterpret_cast<uintptr_t>(row) % 16)
            executor_refuse("ldmatrix: row %p is not 16-byte aligned", row);
        memcpy(mine.element, row, sizeof mine.element);
    }
    const executor_quad<unsigned> out = executor_together<executor_quad<unsigned>>(
        "ldmatrix", 0xFFFFFFFFu, mine, executor_ldmatrix_finish<matrices, trans>, file, line);
    for (int i = 0; i < matrices; i++)
        r[i] = out.d[i];
}
static inline void ohm_ldmatrix_x4(unsigned (&r)[4], const void *row, EXECUTOR_HERE)
{
    executor_ldmatrix<4, false>(r, row, file, line);
}
static inline void ohm_ldmatrix_x4_trans(unsigned (&r)[4], const void *row, EXECUTOR_HERE)
{
    executor_ldmatrix<4, true>(r, row, file, line);
}
static inline void ohm_ldmatrix_x2(unsigned (&r)[2], const void *row, EXECUTOR_HERE)
{
    executor_ldmatrix<2, false>(r, row, file, line);
}
static inline void ohm_ldmatrix_x2_trans(unsigned (&r)[2], const void *row, EXECUTOR_HERE)
{
    executor_ldmatrix<2, true>(r, row, file, line);
}

/* ---- WMMA ---------------------------------------------------------------------------------- */

/* Fragments of 16x16x16. CUDA leaves open which lane holds what: here lane l holds elements 8l..8l+7
 * of a row-major matrix. Code may only treat all elements alike. */
namespace nvcuda
{
namespace wmma
{
struct row_major {
};
struct col_major {
};
struct matrix_a {
};
struct matrix_b {
};
struct accumulator {
};
enum layout_t { mem_row_major, mem_col_major };

template <class Use, int m, int n, int k, class T, class Layout = void> struct fragment {
    static_assert(m == 16 && n == 16 && k == 16, "the executor knows 16x16x16");
    enum { num_elements = 8 };
    T x[num_elements];
};

template <class T> struct executor_matrix {
    const T *at;
    unsigned ld;
};
template <class T> struct executor_eight {
    T x[8];
};
template <class T> static inline void executor_same_finish(executor_lane *lanes, unsigned)
{
    const executor_matrix<T> first = executor_in<executor_matrix<T>>(lanes, 0);
    for (int lane = 0; lane < 32; lane++) {
        const executor_matrix<T> mine = executor_in<executor_matrix<T>>(lanes, lane);
        if (mine.at != first.at || mine.ld != first.ld)
            executor_refuse("wmma: lanes name different places");
    }
}
/* Index of element i of this lane. */
static inline size_t executor_element(int i, unsigned ld, bool columns_first)
{
    const unsigned at = 8u * executor_now.lane + static_cast<unsigned>(i);
    const unsigned row = at / 16, column = at % 16;
    return static_cast<size_t>(columns_first ? column * ld + row : row * ld + column);
}
/* Elements are read before lanes meet and written after: other lanes may be slower without a barrier. */
template <class T, class F>
static inline void executor_load(F &f, const T *at, unsigned ld, bool columns_first,
                                 const char *file, int line)
{
    for (int i = 0; i < 8; i++)
        f.x[i] = at[executor_element(i, ld, columns_first)];
    const executor_matrix<T> in = {at, ld};
    executor_together<char>("wmma::load_matrix_sync", 0xFFFFFFFFu, in, executor_same_finish<T>,
                            file, line);
}
template <class Use, class T, class Layout>
static inline void load_matrix_sync(fragment<Use, 16, 16, 16, T, Layout> &f, const T *at,
                                    unsigned ld, EXECUTOR_HERE)
{
    executor_load(f, at, ld, std::is_same<Layout, col_major>::value, file, line);
}
template <class T>
static inline void load_matrix_sync(fragment<accumulator, 16, 16, 16, T> &f, const T *at,
                                    unsigned ld, layout_t layout, EXECUTOR_HERE)
{
    executor_load(f, at, ld, layout == mem_col_major, file, line);
}
template <class Use, class T, class Layout, class V>
static inline void fill_fragment(fragment<Use, 16, 16, 16, T, Layout> &f, V value)
{
    for (T &x : f.x)
        x = static_cast<T>(value);
}

template <class T>
static inline void store_matrix_sync(T *at, const fragment<accumulator, 16, 16, 16, T> &f,
                                     unsigned ld, layout_t layout, EXECUTOR_HERE)
{
    const executor_matrix<T> in = {at, ld};
    executor_together<char>("wmma::store_matrix_sync", 0xFFFFFFFFu, in, executor_same_finish<T>,
                            file, line);
    for (int i = 0; i < 8; i++)
        at[executor_element(i, ld, layout == mem_col_major)] = f.x[i];
}

template <class T, class Sum> struct executor_wmma {
    T a[8], b[8];
    Sum c[8];
};
template <class T, class Sum, class Wide>
static inline void executor_wmma_finish(executor_lane *lanes, unsigned)
{
    for (int lane = 0; lane < 32; lane++)
        for (int i = 0; i < 8; i++) {
            const int at = 8 * lane + i, row = at / 16, column = at % 16;
            Sum sum = executor_in<executor_wmma<T, Sum>>(lanes, lane).c[i];
            for (int k = 0; k < 16; k++) {
                const int l = 16 * row + k, r = 16 * k + column;
                sum +=
                    static_cast<Wide>(executor_in<executor_wmma<T, Sum>>(lanes, l / 8).a[l % 8]) *
                    static_cast<Wide>(executor_in<executor_wmma<T, Sum>>(lanes, r / 8).b[r % 8]);
            }
            executor_out<executor_eight<Sum>>(lanes, lane).x[i] = sum;
        }
}
template <class T, class Sum, class LayoutA, class LayoutB>
static inline void mma_sync(fragment<accumulator, 16, 16, 16, Sum> &d,
                            const fragment<matrix_a, 16, 16, 16, T, LayoutA> &a,
                            const fragment<matrix_b, 16, 16, 16, T, LayoutB> &b,
                            const fragment<accumulator, 16, 16, 16, Sum> &c, EXECUTOR_HERE)
{
    executor_wmma<T, Sum> in;
    for (int i = 0; i < 8; i++) {
        in.a[i] = a.x[i];
        in.b[i] = b.x[i];
        in.c[i] = c.x[i];
    }
    const executor_eight<Sum> out = executor_together<executor_eight<Sum>>(
        "wmma::mma_sync", 0xFFFFFFFFu, in, executor_wmma_finish<T, Sum, Sum>, file, line);
    for (int i = 0; i < 8; i++)
        d.x[i] = out.x[i];
}
} // namespace wmma
} // namespace nvcuda

#endif
