#include "host/chip_analog_common.h"

#include <stdint.h>

void *ohm_analog_take(char *base, size_t *used, size_t count, size_t size)
{
    void *at = base && count ? base + *used : NULL;
    *used += (count * size + OHM_ANALOG_ALIGN - 1) / OHM_ANALOG_ALIGN * OHM_ANALOG_ALIGN;
    return at;
}

char *ohm_analog_aligned(void *memory)
{
    return (char *)(((uintptr_t)memory + OHM_ANALOG_ALIGN - 1) / OHM_ANALOG_ALIGN *
                    OHM_ANALOG_ALIGN);
}

int ohm_analog_spreads(const ohm_hardware *hw)
{
    return hw->read.model != OHM_READ_NONE &&
           (hw->read.model != OHM_READ_CONSTANT || hw->ir_drop.model != OHM_IR_NONE);
}

static size_t adcs_of(const ohm_geometry *g)
{
    return (size_t)g->slices * ohm_arrays(g) * g->tiles * ohm_packed_columns(g);
}

static size_t references_of(const ohm_geometry *g)
{
    return g->differential ? 0 : (size_t)g->slices * g->column_tiles;
}

void ohm_analog_place(ohm_analog_arrays *a, const ohm_geometry *g, const ohm_hardware *hw,
                      int packed, int gradient, char *base, size_t *used)
{
    size_t k = (size_t)g->k, n = (size_t)g->n, tiles = (size_t)g->tiles, refs = references_of(g),
           adcs = adcs_of(g), all = (size_t)g->slices * ohm_arrays(g) * k * ohm_packed_columns(g),
           cells = (g->differential ? 2 : 1) * k * n, kept = gradient ? cells : 0,
           kept_refs = gradient && refs ? k * g->column_tiles : 0;
    int spread = packed && ohm_analog_spreads(hw),
        johnson = packed && hw->temperature.johnson_bandwidth_hz > 0.0;
    int gain = hw->adc.gain_sigma > 0.0, offset = hw->adc.offset_sigma_lsb > 0.0;
    int bent = hw->output.s_shape != 0.0 || hw->output.s_shape_sigma > 0.0;
    ohm_tiles *w = &a->tiles;
#define TAKE(count, type) ohm_analog_take(base, used, (count), sizeof(type))
    w->w = TAKE(packed ? all : 0, float);
    w->variance = TAKE(spread ? all : 0, float);
    w->johnson = TAKE(johnson ? adcs : 0, float);
    w->gain = TAKE(gain ? adcs : 0, float);
    w->offset = TAKE(offset ? adcs : 0, float);
    w->s_shape = TAKE(bent ? adcs : 0, float);
    w->ref = TAKE(packed ? refs * k : 0, float);
    w->ref_variance = TAKE(spread ? refs * k : 0, float);
    w->ref_johnson = TAKE(johnson ? refs * tiles : 0, float);
    w->ref_gain = TAKE(gain ? refs * tiles : 0, float);
    w->ref_offset = TAKE(offset ? refs * tiles : 0, float);
    w->ref_s_shape = TAKE(bent ? refs * tiles : 0, float);
    a->gradient.g = TAKE(kept, float);
    a->gradient.g_eff = TAKE(kept, float);
    a->gradient.slope = TAKE(kept, float);
    a->gradient.dg = TAKE(kept, float);
    a->gradient.dvariance = TAKE(kept, float);
    a->gradient.g_ref = TAKE(kept_refs, float);
    a->gradient.g_ref_eff = TAKE(kept_refs, float);
    a->gradient.dref = TAKE(kept_refs, float);
    a->gradient.dref_variance = TAKE(kept_refs, float);
    a->negative = TAKE(gradient ? k * n : 0, uint8_t);
    a->correction = TAKE(n, double);
    a->alpha = TAKE(n, float);
    a->dsum_total = TAKE(gradient ? n : 0, float);
#undef TAKE
}

ohm_status ohm_analog_check(const ohm_hardware *hw)
{
    if (hw->weight.encoding == OHM_WEIGHT_OFFSET && hw->tile.cols < 2)
        return OHM_FAIL(
            OHM_ERR_CONFIG,
            "tile.cols: %d leaves no column beside the reference of offset weights: use at least 2",
            hw->tile.cols);
    return OHM_OK;
}

void ohm_analog_reference_levels(uint8_t level[8], const ohm_chip_shape *shape,
                                 const ohm_geometry *g)
{
    unsigned code = 1u << (shape->weight_bits - 1);
    for (int slice = 0; slice < g->slices; slice++)
        level[slice] = (uint8_t)(code >> (slice * g->cell_bits) & (unsigned)g->max_level);
}

int ohm_analog_errors(ohm_column_error errors[OHM_ANALOG_ERRORS], const ohm_analog_arrays *a,
                      const ohm_geometry *g, const ohm_hardware *hw)
{
    const ohm_tiles *w = &a->tiles;
    size_t adcs = adcs_of(g), refs = references_of(g) * (size_t)g->tiles;
    const ohm_column_error kinds[OHM_ANALOG_ERRORS] = {
        {w->gain, adcs, 0.0, hw->adc.gain_sigma, OHM_SITE_ADC_GAIN, 0},
        {w->ref_gain, refs, 0.0, hw->adc.gain_sigma, OHM_SITE_ADC_GAIN, adcs},
        {w->offset, adcs, 0.0, hw->adc.offset_sigma_lsb, OHM_SITE_ADC_OFFSET, 0},
        {w->ref_offset, refs, 0.0, hw->adc.offset_sigma_lsb, OHM_SITE_ADC_OFFSET, adcs},
        {w->s_shape, adcs, hw->output.s_shape, hw->output.s_shape_sigma, OHM_SITE_S_SHAPE, 0},
        {w->ref_s_shape, refs, hw->output.s_shape, hw->output.s_shape_sigma, OHM_SITE_S_SHAPE,
         adcs}};
    int count = 0;
    for (int i = 0; i < OHM_ANALOG_ERRORS; i++)
        if (kinds[i].out)
            errors[count++] = kinds[i];
    return count;
}

int ohm_analog_compensates(const ohm_hardware *hw, const ohm_chip_moment *moment)
{
    return hw->retention.compensation != OHM_COMPENSATION_NONE && moment->time_s > 0.0;
}

ohm_read ohm_analog_calibration_read(const ohm_chip_shape *shape, const ohm_geometry *g,
                                     const ohm_chip_moment *moment, const ohm_read *like,
                                     ohm_purpose purpose)
{
    ohm_read r;
    double johnson;
    ohm_device_read(&r, &johnson, g, shape, moment, purpose);
    r.lsb = like->lsb;
    r.lsb_per_column = like->lsb_per_column;
    if (purpose == OHM_FOR_COMPENSATION) {
        r.quiet = 1;
        r.read_noise = 0;
        r.dac_noise = 0.0f;
    }
    return r;
}

ohm_stream ohm_analog_compensation_stream(const ohm_read *compensation)
{
    ohm_stream stream = compensation->stream;
    stream.site = OHM_SITE_COMPENSATION_INPUT;
    stream.step = 0;
    return stream;
}

int ohm_analog_set_correction(ohm_read *r, const ohm_hardware *hw, double *correction)
{
    if (hw->input.encoding != OHM_INPUT_OFFSET)
        return 0;
    r->correction = correction;
    r->correction_read = hw->input.correction == OHM_CORRECTION_CALIBRATED;
    return !r->correction_read;
}

int ohm_analog_zero_code(const ohm_hardware *hw)
{
    return 1 << (hw->quantise.bits - 1);
}
