/* The chip: an interface of two verbs, as in Algorithm 1 of Feng et al. 2025.
 *
 *     program(x_u, w_split, b_q, g)   levels -> conductances, once per programming
 *     infer(x_u) -> sums              corrected sums in digit·level units
 *
 * One ohm_chip serves one layer (K inputs, N outputs). The simulator behind it is built in
 * ("analog"), registered in code with ohm_chip_register, or a shared object named in the hardware
 * file (simulator: path.so) that exports `const ohm_simulator *ohm_simulator_entry(void)`.
 * No gradient ever enters a simulator, except through the optional `backward` of mode `full`. */
#ifndef OHM_HOST_CHIP_H
#define OHM_HOST_CHIP_H

#include <stddef.h>
#include <stdint.h>

#include "host/hardware.h"
#include "kernels/ranges.h"

enum { OHM_SIMULATOR_ABI = 2 };

/* What a programmed chip is for: reading; or also mode full, whose backward pass needs of every read what
 * mvm_factors.h says, and reads again to get it, or has it kept. */
typedef enum { OHM_CHIP_READ, OHM_CHIP_RECOMPUTE, OHM_CHIP_SAVE } ohm_chip_use;

/* What a simulator is created for. */
typedef struct {
    const ohm_hardware *hardware;
    int k, n;          /* inputs (rows over all tiles) and outputs (columns) of the layer */
    uint32_t layer;    /* index in the network, < 65536: part of every draw's counter */
    int input_bits, weight_bits; /* b_x, b_w of physics.md section 2 */
    int planes, slices, signs;   /* P, S, 2 for differential or 1 for offset weights */
} ohm_chip_shape;

/* Which instance of the chip, when. Draws depend on this and on element indices, on nothing else. */
typedef struct {
    uint32_t seed, chip;  /* Philox key */
    uint32_t step;        /* optimiser step (programming and reads in training); 0 in evaluation */
    int evaluation;       /* 1: evaluation draws (a different stream from training) */
    double time_s;        /* since programming */
} ohm_chip_moment;

/* A simulator that works in a device's memory queues its work there and must not wait: every pointer in
 * the arguments below, but those to moment, queue and rescale, is the device's then. What it finds wrong
 * on the way it notes in *fault. */
typedef struct ohm_chip_queue {
    struct ohm_device *device; /* of the backend */
    const uint32_t *step;      /* on the device: instead of moment.step, so that a recorded step can be replayed; NULL: moment.step */
    uint32_t *fault;           /* on the device: bits of ohm_fault (kernels/ranges.h) are added */
} ohm_chip_queue;

/* y = sum · x_scale · w_scale · column_scale + bias, in double, rounded once. */
typedef struct {
    const float *x_scale;    /* [1], or [m] */
    int x_scale_rows;        /* x_scale has one per row */
    const float *w_scale;    /* [n] */
    const float *column_scale, *bias; /* [n] or NULL */
} ohm_chip_rescale;

typedef struct {
    const uint8_t *x_u;      /* [m,k] drive codes of the rows read first (all of a linear layer's, a chunk of a convolution's), row stride ldx */
    int m, ldx;
    const uint8_t *w_split;  /* [slices][signs][k][n] levels, LSB slice first; differential: sign 0 = G+, sign 1 = G- */
    const int32_t *b_q;      /* [n] rint(b/(s_x s_w)); NULL when s_x differs by row. For information: the bias is added by the caller, or
                              * (bias: rows) lies in the last rows of w_split, driven by the last codes of x_u */
    const float *g;          /* gain: ADC LSB in digit·level units, [planes][slices][n or 1]; 0 = not known yet. Valid, and may be updated by the caller, until the last infer */
    int g_per_column;
    ohm_chip_moment moment;
    void *state;             /* state_bytes of memory: what infer needs. Lives until the caller drops it */
    void *scratch;           /* scratch_bytes, for the duration of the call */
    int want_gradient;       /* ohm_chip_use; beyond OHM_CHIP_READ: also keep the derivatives of the cells */
    const ohm_chip_queue *queue; /* NULL: host memory */
} ohm_program_args;

typedef struct {
    const uint8_t *x_u;      /* [m,k] drive codes, row stride ldx: offset: q + 2^(bits-1); two_phase and sign_magnitude: sign << 7 | magnitude; unsigned: q */
    int m, ldx;
    uint64_t first_row;      /* global index of row 0 within the step: image·positions + position */
    const ohm_chip_moment *moment;
    void *state, *scratch;
    float *sums;             /* out [m,n], row stride lds: corrected sums in digit·level units */
    int lds;
    uint32_t *histogram;     /* with range: instead count the rows' currents in `bins` bins of range/bins, [planes][slices][n or 1][bins] */
    int bins;
    float *range;            /* if not NULL: instead of sums, raise range[planes][slices][n or 1] to max |noise-free bit-line current| in digit·level units, of these rows and of the chip's own calibration reads (m = 0: of those alone) */
    void *kept;              /* OHM_CHIP_SAVE: out [m][kept_bytes], what backward needs of these rows */
    const ohm_chip_rescale *rescale; /* not NULL, and only where the simulator `rescales`: sums become outputs of the layer */
    const ohm_chip_queue *queue;
} ohm_infer_args;

/* Mode full (physics.md section 7): the derivative of the noisy forward, rounding as identity. */
typedef struct {
    const uint8_t *x_u;      /* as for infer */
    int m, ldx;
    uint64_t first_row;
    const ohm_chip_moment *moment;
    void *state, *scratch;
    const float *dsums;      /* [m,n] gradient of the corrected sums, row stride ldd */
    int ldd;
    float *dx;               /* out [m,k]: gradient of the (real) drive value x_q, row stride lddx; NULL = not wanted */
    int lddx;
    float *dw;               /* [n,k]: gradient of the (real) weight code w_q; added to */
    const void *kept;        /* OHM_CHIP_SAVE: as infer left it for these rows */
    float *sums;             /* OHM_CHIP_RECOMPUTE: out [m,n], row stride lds: the corrected sums once more; NULL = not wanted. Only of simulators with kept_bytes */
    int lds;
    int last;                /* 1 with the last chunk of a batch: gradients of per-programming reads (calibration) are added then */
    const ohm_chip_queue *queue;
} ohm_backward_args;

typedef struct ohm_simulator {
    int abi;                 /* OHM_SIMULATOR_ABI */
    const char *name;
    /* Checks that the hardware is supported and makes what is constant for a layer. */
    ohm_status (*create)(void **self, const ohm_chip_shape *shape);
    void (*destroy)(void *self); /* NULL-safe */
    size_t (*state_bytes)(const void *self, int want_gradient);
    size_t (*scratch_bytes)(const void *self, int max_rows, int want_gradient);
    ohm_status (*program)(void *self, const ohm_program_args *args);
    ohm_status (*infer)(void *self, const ohm_infer_args *args);
    ohm_status (*backward)(void *self, const ohm_backward_args *args); /* NULL: mode full is refused */
    int measures_range;      /* infer honours `range`; without it ADC ranges from data are refused */
    int rescales;            /* infer honours `rescale` */
    ohm_status (*kept_bytes)(const void *self, size_t *bytes); /* of one row of x; fails where this chip keeps nothing. NULL: no chip does */
} ohm_simulator;

typedef const ohm_simulator *(*ohm_simulator_entry_fn)(void); /* symbol "ohm_simulator_entry" */

/* Makes a simulator known under its name for this process. Not thread-safe; call it before any chip is made.
 * The pointer must stay valid. A name that is taken is refused. */
ohm_status ohm_chip_register(const ohm_simulator *simulator);

typedef struct ohm_chip ohm_chip;

struct ohm_backend;
/* Finds hardware->simulator and creates it for a layer on a backend (NULL: the CPU). Simulators that are
 * registered or loaded work on the CPU alone: OHM_ERR_UNSUPPORTED elsewhere. */
ohm_status ohm_chip_create(ohm_chip **chip, const struct ohm_backend *backend, const ohm_hardware *hardware, int k, int n, uint32_t layer);
/* What bits of ohm_fault mean, as one line; OHM_OK: none. */
ohm_status ohm_chip_fault(uint32_t fault, uint32_t layer);
void ohm_chip_destroy(ohm_chip *chip);
const ohm_chip_shape *ohm_chip_get_shape(const ohm_chip *chip);
const ohm_simulator *ohm_chip_simulator(const ohm_chip *chip);
size_t ohm_chip_state_bytes(const ohm_chip *chip, int want_gradient);
size_t ohm_chip_scratch_bytes(const ohm_chip *chip, int max_rows, int want_gradient);
/* OHM_ERR_UNSUPPORTED, and why, where the chip cannot be used with OHM_CHIP_SAVE. */
ohm_status ohm_chip_kept_bytes(const ohm_chip *chip, size_t *bytes);
ohm_status ohm_chip_program(ohm_chip *chip, const ohm_program_args *args);
ohm_status ohm_chip_infer(ohm_chip *chip, const ohm_infer_args *args);
ohm_status ohm_chip_backward(ohm_chip *chip, const ohm_backward_args *args);

#endif
