#include "host/device.h"

#include <math.h>
#include <string.h>

static const double BOLTZMANN_EV = 8.617333262e-5, BOLTZMANN_J = 1.380649e-23;

static int ceil_div(int a, int b)
{
    return (a + b - 1) / b;
}

void ohm_device_shape(ohm_chip_shape *shape, const ohm_hardware *hw, int k, int n, uint32_t layer)
{
    int bits = hw->quantise.bits;
    *shape = (ohm_chip_shape){.hardware = hw, .k = k, .n = n, .layer = layer};
    shape->input_bits = hw->input.encoding == OHM_INPUT_OFFSET ? bits : bits - 1;
    shape->weight_bits = hw->weight.encoding == OHM_WEIGHT_OFFSET ? bits : bits - 1;
    shape->planes =
        ceil_div(shape->input_bits,
                 hw->input.dac_bits < shape->input_bits ? hw->input.dac_bits : shape->input_bits);
    shape->slices = ceil_div(shape->weight_bits, hw->weight.cell_bits < shape->weight_bits
                                                     ? hw->weight.cell_bits
                                                     : shape->weight_bits);
    shape->signs = hw->weight.encoding == OHM_WEIGHT_DIFFERENTIAL ? 2 : 1;
}

void ohm_device_geometry(ohm_geometry *g, const ohm_chip_shape *shape)
{
    static const int drives[] = {[OHM_INPUT_OFFSET] = OHM_DRIVE_OFFSET,
                                 [OHM_INPUT_TWO_PHASE] = OHM_DRIVE_TWO_PHASE,
                                 [OHM_INPUT_SIGN_MAGNITUDE] = OHM_DRIVE_SIGN_MAGNITUDE,
                                 [OHM_INPUT_UNSIGNED] = OHM_DRIVE_UNSIGNED};
    const ohm_hardware *hw = shape->hardware;
    memset(g, 0, sizeof *g);
    g->k = shape->k;
    g->n = shape->n;
    g->drive = drives[hw->input.encoding];
    g->planes = shape->planes;
    g->slices = shape->slices;
    g->phases = hw->input.encoding == OHM_INPUT_TWO_PHASE ? 2 : 1;
    g->dac_bits = hw->input.dac_bits < shape->input_bits ? hw->input.dac_bits : shape->input_bits;
    g->cell_bits =
        hw->weight.cell_bits < shape->weight_bits ? hw->weight.cell_bits : shape->weight_bits;
    g->differential = hw->weight.encoding == OHM_WEIGHT_DIFFERENTIAL;
    g->digital = hw->weight.subtract == OHM_SUBTRACT_DIGITAL;
    g->tile_rows = hw->tile.rows;
    g->tiles = ceil_div(g->k, g->tile_rows);
    g->even = hw->tile.split == OHM_SPLIT_EVEN;
    /* Columns share something only through wires and reference columns; else one tile serves all. */
    int interleaved = g->differential && hw->tile.pair == OHM_PAIR_INTERLEAVED;
    int columns = interleaved       ? hw->tile.cols / 2
                  : g->differential ? hw->tile.cols
                                    : hw->tile.cols - 1;
    int tiled = !g->differential || hw->ir_drop.model != OHM_IR_NONE;
    g->tile_columns = tiled && columns < g->n ? columns : g->n;
    g->column_tiles = ceil_div(g->n, g->tile_columns);
    g->max_digit = (1 << g->dac_bits) - 1;
    g->max_level = (1 << g->cell_bits) - 1;
    g->pedestal = isinf(hw->cell.on_off) ? 0.0 : g->max_level / (hw->cell.on_off - 1.0);
}

/* µS of one level, A of one digit on one level, in µA. */
static double step_us(const ohm_geometry *g, const ohm_hardware *hw)
{
    return hw->cell.g_max_us / (g->pedestal + g->max_level);
}

static double unit_ua(const ohm_geometry *g, const ohm_hardware *hw)
{
    return hw->input.v_read_v / g->max_digit * step_us(g, hw);
}

/* ---- Laws of one target level ---------------------------------------------------------------- */

typedef struct {
    double programmed, sigma, nu, nu_sigma;
} law_value;

static double clamp(double x, double low, double high)
{
    return x < low ? low : x > high ? high : x;
}

static double polynomial(const ohm_coefficients *c, double x)
{
    double sum = 0.0;
    for (int i = c->count - 1; i >= 0; i--)
        sum = sum * x + c->at[i];
    return sum;
}

static double table_at(const ohm_device_table *t, const double *column, double target)
{
    if (target <= t->target_us[0])
        return column[0];
    for (int i = 1; i < t->count; i++)
        if (target <= t->target_us[i])
            return column[i - 1] + (column[i] - column[i - 1]) * (target - t->target_us[i - 1]) /
                                       (t->target_us[i] - t->target_us[i - 1]);
    return column[t->count - 1];
}

/* Drift exponents of PCM by target ĝ: Nandakumar et al. 2019, and HERMES (Le Gallo et al. 2023), as in AIHWKIT. */
static void pcm_nu(law_value *v, int law, double x)
{
    x = x > 1e-7 ? x : 1e-7;
    double l = log(x);
    if (law == OHM_PCM_NANDAKUMAR) {
        v->nu = clamp(-0.0155 * l + 0.0244, 0.049, 0.1);
        v->nu_sigma = clamp(-0.0125 * l - 0.0059, 0.008, 0.045);
        return;
    }
    v->nu = x < 0.0945 ? clamp(-0.0387 * l - 0.0182, 0.072, 0.13)
                       : -0.0436 * x * x - 0.0126 * x + 0.0736;
    v->nu_sigma = x < 0.3055 ? clamp(-0.0117 * l - 0.0057, 0.0091, 0.04)
                             : -0.0118 * x * x + 0.0093 * x + 0.0073;
}

static law_value law_of(const ohm_geometry *g, const ohm_hardware *hw, double level)
{
    double target = g->pedestal + level, g_max = g->pedestal + g->max_level, x = target / g_max,
           step = step_us(g, hw);
    double factor = hw->programming.level, g_us = target * step;
    law_value v = {.programmed = target};
    switch (hw->programming.model) {
    case OHM_PROGRAM_LOGNORMAL:
        v.sigma = factor * hw->programming.sigma;
        break;
    case OHM_PROGRAM_GAUSSIAN:
        v.sigma = factor * hw->programming.sigma * g_max;
        break;
    case OHM_PROGRAM_PROPORTIONAL:
        v.sigma = factor * hw->programming.sigma * target;
        break;
    case OHM_PROGRAM_POLYNOMIAL:
        v.sigma = factor * fmax(polynomial(&hw->programming.coefficients_us, x), 0.0) / step;
        break;
    case OHM_PROGRAM_EXPONENTIAL:
        v.sigma = factor * hw->programming.coefficients_us.at[0] *
                  (1.0 - exp(-g_us / hw->programming.coefficients_us.at[1])) / step;
        break;
    case OHM_PROGRAM_TABLE:
        v.programmed = table_at(&hw->programming.rows, hw->programming.rows.mean_us, g_us) / step;
        v.sigma =
            factor * table_at(&hw->programming.rows, hw->programming.rows.sigma_us, g_us) / step;
        break;
    case OHM_PROGRAM_PCM: /* Nandakumar et al. 2019, fitted at 25 µS */
        v.sigma = factor * fmax(0.26348 + 1.9650 * x - 1.1731 * x * x, 0.0) * hw->cell.g_max_us /
                  25.0 / step;
        break;
    default:
        break;
    }
    v.nu = hw->retention.nu;
    v.nu_sigma = hw->retention.nu_sigma;
    if (hw->retention.model == OHM_RETENTION_PCM)
        pcm_nu(&v, hw->retention.pcm_law, x);
    return v;
}

static void fill_level(ohm_level *at, double level, const ohm_geometry *g, const ohm_hardware *hw)
{
    const double h = 1e-4; /* laws are smooth between their clamps: central differences to 1e-8 */
    double below = level >= h ? level - h : level;
    law_value v = law_of(g, hw, level), up = law_of(g, hw, level + h), down = law_of(g, hw, below);
    double span = level + h - below;
    *at = (ohm_level){v.programmed,
                      v.sigma,
                      v.nu,
                      v.nu_sigma,
                      (up.programmed - down.programmed) / span,
                      (up.sigma - down.sigma) / span,
                      (up.nu - down.nu) / span,
                      (up.nu_sigma - down.nu_sigma) / span};
}

static void law_at(ohm_level *at, double level, const void *context)
{
    const ohm_chip_shape *shape = context;
    ohm_geometry g;
    ohm_device_geometry(&g, shape);
    fill_level(at, level, &g, shape->hardware);
}

/* ---- Programming ----------------------------------------------------------------------------- */

static uint32_t time_word(double time_s)
{
    float t = (float)time_s;
    uint32_t word;
    memcpy(&word, &t, sizeof word);
    return word;
}

static void set_retention(ohm_programming *p, const ohm_hardware *hw, double time_s, double step)
{
    double t = time_s > 0.0 ? time_s : 0.0;
    if (hw->retention.model == OHM_RETENTION_POWER_LAW ||
        hw->retention.model == OHM_RETENTION_PCM) {
        p->keep = t > 0.0 ? OHM_KEEP_POWER : OHM_KEEP_NONE;
        p->log_ratio = log((t + hw->retention.t0_s) / hw->retention.t0_s);
        p->nu_random =
            p->keep && (hw->retention.model == OHM_RETENTION_PCM || hw->retention.nu_sigma > 0.0);
    } else if (hw->retention.model == OHM_RETENTION_LOGARITHMIC && t > 0.0) {
        double l = t > 1.0 ? log(t) : 0.0; /* the fits start at one second */
        p->keep = OHM_KEEP_LOGARITHMIC;
        p->keep_scale = hw->retention.log_scale;
        p->keep_shift = hw->retention.log_slope_us * l / step;
        p->keep_spread = (hw->retention.log_sigma_us + hw->retention.log_sigma_slope_us * l) / step;
        p->nu_random = p->keep_spread > 0.0;
    }
    if (hw->retention.model == OHM_RETENTION_PCM && hw->retention.one_over_f) {
        p->flicker =
            hw->retention.pcm_law == OHM_PCM_HERMES ? OHM_FLICKER_HERMES : OHM_FLICKER_NANDAKUMAR;
        p->flicker_scale = sqrt(log((t + hw->retention.t0_s + hw->retention.t_read_s) /
                                    (2.0 * hw->retention.t_read_s)));
    }
    p->floor = hw->retention.floor_us / step;
}

void ohm_device_programming(ohm_programming *p, const ohm_geometry *g, const ohm_chip_shape *shape,
                            const ohm_chip_moment *moment)
{
    const ohm_hardware *hw = shape->hardware;
    double step = step_us(g, hw);
    uint32_t where = shape->layer | (uint32_t)moment->evaluation << 16;
    memset(p, 0, sizeof *p);
    for (int level = 0; level <= g->max_level; level++)
        fill_level(&p->level[level], level, g, hw);
    p->law = law_at;
    p->law_context = shape;
    p->g_min = g->pedestal;
    p->g_max = g->pedestal + g->max_level;
    p->noise = hw->programming.model != OHM_PROGRAM_NONE;
    p->lognormal = hw->programming.model == OHM_PROGRAM_LOGNORMAL;
    p->tolerance = hw->programming.tolerance;
    set_retention(p, hw, moment->time_s, step);
    p->activation = hw->temperature.activation_ev;
    p->activation_sigma = hw->temperature.activation_sigma_ev;
    p->inverse_kelvin =
        (1.0 / hw->temperature.kelvin - 1.0 / hw->temperature.reference_kelvin) / BOLTZMANN_EV;
    p->thermal = p->inverse_kelvin != 0.0 && (p->activation != 0.0 || p->activation_sigma != 0.0);
    p->stuck_off = hw->faults.stuck_off;
    p->stuck_on = hw->faults.stuck_on;
    p->stuck_random = hw->faults.stuck_random;
    p->per_program =
        (ohm_stream){.key = {moment->seed, moment->chip}, .where = where, .step = moment->step};
    p->per_chip =
        (ohm_stream){.key = {moment->seed, moment->chip}, .where = shape->layer, .step = 0};
    p->per_time = (ohm_stream){
        .key = {moment->seed, moment->chip},
        .where = where,
        .step = ohm_programming_time_step(moment->step, time_word(moment->time_s))};
    p->ir = ohm_device_solves_reads(hw)               ? OHM_WIRES_NONE
            : hw->ir_drop.model == OHM_IR_EXACT       ? OHM_WIRES_EXACT
            : hw->ir_drop.model == OHM_IR_CLOSED_FORM ? OHM_WIRES_CLOSED
                                                      : OHM_WIRES_NONE;
    p->ir_gradient = p->ir == OHM_WIRES_EXACT && hw->ir_drop.gradient == OHM_IR_GRADIENT_CLOSED_FORM
                         ? OHM_WIRES_CLOSED
                         : p->ir;
    p->halves = hw->mvm.precision == OHM_MVM_FP16 && !ohm_device_solves_reads(hw);
    p->interleaved = g->differential && hw->tile.pair == OHM_PAIR_INTERLEAVED;
    p->physical_rows = hw->tile.rows;
    p->physical_columns = hw->tile.cols;
    double warm = 1.0 + hw->temperature.wire_tcr_per_k *
                            (hw->temperature.kelvin - hw->temperature.reference_kelvin);
    double per_ohm = step * 1e-6;
    p->wires = (ohm_wires){.word_line = hw->ir_drop.r_wordline_ohm * warm * per_ohm,
                           .bit_line = hw->ir_drop.r_bitline_ohm * warm * per_ohm,
                           .driver = hw->ir_drop.r_driver_ohm * per_ohm,
                           .sense = hw->ir_drop.r_sense_ohm * per_ohm,
                           .unused = g->pedestal,
                           .drive_both = hw->ir_drop.drive == OHM_BOTH_ENDS,
                           .sense_both = hw->ir_drop.sense == OHM_BOTH_ENDS};
}

/* ---- Reading --------------------------------------------------------------------------------- */

void ohm_device_read_law(ohm_read_law *law, const ohm_geometry *g, const ohm_hardware *hw,
                         double time_s)
{
    static const int models[] = {[OHM_READ_NONE] = OHM_SPREAD_NONE,
                                 [OHM_READ_CONSTANT] = OHM_SPREAD_CONSTANT,
                                 [OHM_READ_PROPORTIONAL] = OHM_SPREAD_PROPORTIONAL,
                                 [OHM_READ_POLYNOMIAL] = OHM_SPREAD_POLYNOMIAL,
                                 [OHM_READ_TABLE] = OHM_SPREAD_TABLE,
                                 [OHM_READ_PCM] = OHM_SPREAD_PCM,
                                 [OHM_READ_LOGARITHMIC] = OHM_SPREAD_LOGARITHMIC};
    double step = step_us(g, hw);
    memset(law, 0, sizeof *law);
    law->model = models[hw->read.model];
    law->g_max = g->pedestal + g->max_level;
    law->g_step_us = step;
    law->sigma = hw->read.sigma;
    if (law->model == OHM_SPREAD_CONSTANT)
        law->sigma *= law->g_max;
    if (law->model ==
        OHM_SPREAD_LOGARITHMIC) { /* Falcone et al. 2025: sigma·log10(G)·sqrt(ln((t + t_read)/(2 t_read))), µS */
        double ratio = (time_s + hw->retention.t_read_s) / (2.0 * hw->retention.t_read_s);
        law->sigma *= (ratio > 1.0 ? sqrt(log(ratio)) : 0.0) / step;
    }
    if (law->model == OHM_SPREAD_POLYNOMIAL) {
        law->count = hw->read.coefficients_us.count;
        for (int i = 0; i < law->count; i++)
            law->coefficient[i] = hw->read.coefficients_us.at[i] / step;
    }
    if (law->model == OHM_SPREAD_TABLE) {
        law->count = hw->read.rows.count;
        for (int i = 0; i < law->count; i++) {
            law->at[i] = hw->read.rows.target_us[i] / step;
            law->value[i] = hw->read.rows.sigma_us[i] / step;
        }
    }
}

static int cell_law(const ohm_hardware *hw)
{
    return hw->cell.iv == OHM_IV_CUBIC  ? OHM_CELL_CUBIC
           : hw->cell.iv == OHM_IV_SINH ? OHM_CELL_SINH
                                        : OHM_CELL_LINEAR;
}

void ohm_device_read(ohm_read *r, double *johnson, const ohm_geometry *g,
                     const ohm_chip_shape *shape, const ohm_chip_moment *moment,
                     ohm_purpose purpose)
{
    const ohm_hardware *hw = shape->hardware;
    double step = step_us(g, hw), v_step = hw->input.v_read_v / g->max_digit;
    memset(r, 0, sizeof *r);
    r->iv = cell_law(hw);
    r->iv_coefficient = hw->cell.iv_coefficient;
    r->v_read = hw->input.v_read_v;
    r->dac_inl = hw->input.inl;
    r->dac_noise = (float)hw->input.noise;
    for (int digit = 0; digit <= g->max_digit; digit++) {
        double level = ohm_dac_drive(r->dac_inl, g->max_digit, digit);
        r->dac_level[digit] = (float)level;
        r->drive_level[digit] =
            (float)ohm_cell_drive(r->iv, r->iv_coefficient, r->v_read, g->max_digit, level, NULL);
    }
    *johnson = 4.0 * BOLTZMANN_J * hw->temperature.kelvin * hw->temperature.johnson_bandwidth_hz /
               (v_step * v_step * step * 1e-6);
    ohm_read_law law;
    ohm_device_read_law(&law, g, hw, moment->time_s);
    int spread =
        law.model != OHM_SPREAD_NONE &&
        (law.sigma > 0.0 || law.model == OHM_SPREAD_POLYNOMIAL || law.model == OHM_SPREAD_TABLE);
    r->read_cells =
        spread && (law.model != OHM_SPREAD_CONSTANT || hw->ir_drop.model != OHM_IR_NONE);
    r->read_constant = spread && !r->read_cells ? (float)(law.sigma * law.sigma) : 0.0f;
    r->read_noise = spread || *johnson > 0.0;
    r->adc_bits = hw->adc.bits;
    r->adc_noise = hw->adc.bits > 0 ? (float)hw->adc.noise_lsb : 0.0f;
    r->inl = (float)hw->adc.inl_lsb;
    r->static_errors =
        hw->adc.bits > 0 &&
        (hw->adc.gain_sigma > 0.0 || hw->adc.offset_sigma_lsb > 0.0 || hw->adc.inl_lsb != 0.0 ||
         hw->output.s_shape != 0.0 || hw->output.s_shape_sigma > 0.0);
    r->lsb_per_column = hw->adc.granularity == OHM_ADC_PER_COLUMN;
    r->exact_normals = hw->normals == OHM_NORMALS_EXACT;
    r->integer_sums =
        hw->programming.model == OHM_PROGRAM_NONE && hw->retention.model == OHM_RETENTION_NONE &&
        hw->temperature.kelvin == hw->temperature.reference_kelvin &&
        hw->faults.stuck_random == 0.0 && hw->ir_drop.model == OHM_IR_NONE && !r->read_noise &&
        r->dac_noise == 0.0f && r->dac_inl == 0.0 && r->iv == OHM_CELL_LINEAR && r->adc_bits == 0;
    r->stream = (ohm_stream){.key = {moment->seed, moment->chip},
                             .step = moment->step,
                             .where = shape->layer | (uint32_t)moment->evaluation << 16 |
                                      (uint32_t)purpose << 17};
}

int ohm_device_solves_reads(const ohm_hardware *hw)
{
    return hw->ir_drop.model == OHM_IR_EXACT &&
           (hw->ir_drop.zero_input == OHM_ZERO_GATED || hw->cell.iv != OHM_IV_LINEAR);
}

void ohm_device_network(ohm_mvm_network *n, const ohm_geometry *g, const ohm_hardware *hw,
                        const ohm_programming *p)
{
    int law = cell_law(hw);
    double volts = hw->input.v_read_v / g->max_digit, a = hw->cell.iv_coefficient; /* V per digit */
    *n = (ohm_mvm_network){
        .wires = p->wires,
        .rows = p->physical_rows,
        .columns = p->physical_columns,
        .interleaved = p->interleaved,
        .gated = hw->ir_drop.zero_input == OHM_ZERO_GATED,
        .law =
            ohm_cell_law_at(law, a * (law == OHM_CELL_CUBIC ? volts * volts : volts), g->max_digit),
        .tolerance = OHM_NODAL_TOLERANCE};
}

double ohm_device_codes(const ohm_geometry *g, const ohm_hardware *hw)
{
    return (double)((1 << (ohm_bipolar(g) ? hw->adc.bits - 1 : hw->adc.bits)) - 1);
}

double ohm_device_lsb(const ohm_geometry *g, const ohm_hardware *hw)
{
    int rows = ohm_tile_rows_most(g);
    switch (hw->adc.range.kind) {
    case OHM_ADC_MAX: /* whole multiples of one digit on one level waste no code */
        return ceil(rows * (double)g->max_digit *
                    (g->max_level + (g->digital ? g->pedestal : 0.0)) / ohm_device_codes(g, hw));
    case OHM_ADC_GRANULAR:
        return 1.0;
    case OHM_ADC_NUMBER:
        return hw->adc.range.value / unit_ua(g, hw) / ohm_device_codes(g, hw);
    default:
        return 0.0;
    }
}
