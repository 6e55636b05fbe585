/* A simulator to start from: the exact product, every output off by a factor 1 + sigma·z, then the
 * ADC's rounding where one read makes a product. Hardware file:
 *     simulator: ohmic.so
 *     simulator_options: sigma=0.05 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "host/chip.h"
#include "kernels/normals.h"

typedef struct {
    ohm_chip_shape shape; /* shape.hardware outlives the simulator */
    double sigma;
} ohmic;

/* What program leaves for infer in memory that the caller owns and may keep per micro-batch. */
typedef struct {
    const float *lsb; /* the caller's: read it in infer, it may not be known before */
    int lsb_per_column;
    float w[];        /* [n][k] weight codes */
} programmed;

static ohm_status create(void **self, const ohm_chip_shape *shape)
{
    const char *options = shape->hardware->simulator_options;
    double sigma = 0.0;
    int end = 0;
    if (options[0] && (sscanf(options, "sigma=%lf%n", &sigma, &end) != 1 || options[end] || !(sigma >= 0.0 && sigma <= 10.0)))
        return OHM_FAIL(OHM_ERR_CONFIG, "key 'simulator_options': ohmic got '%.80s'; write sigma=NUMBER, 0 to 10", options);
    ohmic *o = malloc(sizeof *o);
    if (!o)
        return OHM_FAIL(OHM_ERR_MEMORY, "simulator ohmic: out of memory");
    *o = (ohmic){*shape, sigma};
    *self = o;
    return OHM_OK;
}

static size_t state_bytes(const void *self, int want_gradient)
{
    const ohmic *o = self;
    (void)want_gradient;
    return sizeof(programmed) + (size_t)o->shape.n * o->shape.k * sizeof(float);
}

static size_t scratch_bytes(const void *self, int max_rows, int want_gradient)
{
    (void)max_rows, (void)want_gradient;
    return (size_t)((const ohmic *)self)->shape.n * sizeof(float); /* one row of draws */
}

/* Cell levels -> weight codes: slices by place value, the arrays of a pair by sign. A model of
 * devices would turn levels into conductances here, and scale to args->x_u and args->b_q if it must. */
static ohm_status program(void *self, const ohm_program_args *args)
{
    const ohm_chip_shape *s = &((const ohmic *)self)->shape;
    programmed *p = args->state;
    int cell_bits = s->hardware->weight.cell_bits < s->weight_bits ? s->hardware->weight.cell_bits : s->weight_bits;
    int middle = s->signs == 1 ? 1 << (s->weight_bits - 1) : 0; /* offset weights count from here */
    p->lsb = args->g;
    p->lsb_per_column = args->g_per_column;
    for (int n = 0; n < s->n; n++)
        for (int k = 0; k < s->k; k++) {
            int code = -middle;
            for (int slice = 0; slice < s->slices; slice++)
                for (int sign = 0; sign < s->signs; sign++) {
                    int level = args->w_split[(((size_t)slice * s->signs + sign) * s->k + k) * s->n + n];
                    code += (sign ? -level : level) * (1 << (slice * cell_bits));
                }
            p->w[(size_t)n * s->k + k] = (float)code;
        }
    return OHM_OK;
}

static int input_code(const ohm_hardware *hw, uint8_t x)
{
    switch (hw->input.encoding) {
    case OHM_INPUT_OFFSET: return x - (1 << (hw->quantise.bits - 1));
    case OHM_INPUT_UNSIGNED: return x;
    default: return x >> 7 ? -(x & 127) : x;
    }
}

static ohm_status infer(void *self, const ohm_infer_args *args)
{
    const ohmic *o = self;
    const ohm_chip_shape *s = &o->shape;
    const programmed *p = args->state;
    const ohm_chip_moment *now = args->moment;
    float *z = args->scratch;
    /* A draw's address: seed and chip, layer and use, step, then row and column. Nothing else may
     * matter: not threads, not how the batch is cut. */
    const ohm_stream stream = {.key = {now->seed, now->chip}, .site = OHM_SITE_PLUGIN,
                               .where = s->layer | (uint32_t)now->evaluation << 16, .step = now->step};
    for (int i = 0; i < args->m; i++) {
        ohm_normals_exact(z, (args->first_row + (uint64_t)i) * (uint64_t)s->n, (size_t)s->n, &stream);
        for (int n = 0; n < s->n; n++) {
            double sum = 0.0, step = s->planes * s->slices == 1 && s->hardware->adc.bits > 0 ? p->lsb[p->lsb_per_column ? n : 0] : 0.0;
            for (int k = 0; k < s->k; k++)
                sum += input_code(s->hardware, args->x_u[(size_t)i * args->ldx + k]) * (double)p->w[(size_t)n * s->k + k];
            sum *= 1.0 + o->sigma * z[n];
            args->sums[(size_t)i * args->lds + n] = (float)(step > 0.0 ? step * rint(sum / step) : sum);
        }
    }
    return OHM_OK;
}

static const ohm_simulator simulator = {
    .abi = OHM_SIMULATOR_ABI, .name = "ohmic", .create = create, .destroy = free, .state_bytes = state_bytes,
    .scratch_bytes = scratch_bytes, .program = program, .infer = infer, /* no backward: mode full is refused */
};

/* The one symbol that is looked up. Compiled into a program instead: pass it to ohm_chip_register. */
const ohm_simulator *ohm_simulator_entry(void);
const ohm_simulator *ohm_simulator_entry(void)
{
    return &simulator;
}
