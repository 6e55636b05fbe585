#include "tests/fixture_mvm.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const char *const fixture_mappings[FIXTURE_MAPPINGS] = {
    "input.encoding=offset weight.encoding=differential weight.cell_bits=2 input.dac_bits=2",
    "input.encoding=two_phase weight.encoding=differential weight.subtract=digital "
    "weight.cell_bits=3 input.dac_bits=4",
    "input.encoding=sign_magnitude weight.encoding=offset weight.cell_bits=4 input.dac_bits=7 "
    "tile.cols=24",
    "input.encoding=unsigned weight.encoding=offset weight.subtract=digital weight.cell_bits=8 "
    "input.dac_bits=1 tile.cols=11",
};
const char *const fixture_effects[FIXTURE_EFFECTS] = {
    "adc.bits=0",
    "adc.bits=7 adc.range=max",
    "programming.model=lognormal read.model=constant read.sigma=0.01 adc.bits=0",
    "programming.model=lognormal read.model=polynomial read.coefficients_us=[0.1,0.4,-0.2] "
    "adc.bits=6 adc.range=max adc.noise_lsb=0.4",
    "programming.model=gaussian read.model=pcm read.sigma=0.0175 "
    "temperature.johnson_bandwidth_hz=1e8 adc.bits=8 adc.range=max adc.granularity=column",
    "programming.model=lognormal input.noise=0.1 input.inl=0.2 cell.iv=sinh cell.iv_coefficient=3 "
    "adc.bits=8 adc.range=max adc.noise_lsb=0.3",
    ("programming.model=lognormal read.model=constant read.sigma=0.01 adc.bits=6 adc.range=max "
     "adc.noise_lsb=0.5 adc.gain_sigma=0.02 "
     "adc.offset_sigma_lsb=0.7 adc.inl_lsb=0.6 output.s_shape=0.2 output.s_shape_sigma=0.05 "
     "normals=exact"),
    "ir_drop.model=closed_form ir_drop.r_driver_ohm=20 read.model=constant read.sigma=0.01 "
    "adc.bits=7 adc.range=max",
    "ir_drop.model=exact ir_drop.r_driver_ohm=20 read.model=constant read.sigma=0.01 adc.bits=0",
};

void fixture_mvm_make(fixture_mvm *f, const char *settings, int k, int n, int m)
{
    memset(f, 0, sizeof *f);
    fixture_chip_make(&f->chip, settings, k, n, 9, 0.3);
    snprintf(f->settings, sizeof f->settings, "%s", settings);
    f->k = k;
    f->n = n;
    f->m = m;
    f->first_row = 1000;
    /* float products over k rows: measured 4e-7 at most; cells of exact IR drop solved in float: 2.1e-6 */
    f->tolerance = strstr(settings, "ir_drop.model=exact") ? 3e-6 : 2e-6;
    f->threshold = 2e-4;
    f->x = malloc((size_t)m * k * sizeof *f->x);
    f->codes = malloc((size_t)m * k);
    f->sums = malloc((size_t)m * n * sizeof *f->sums);
    f->analogue = malloc((size_t)m * n * ohm_read_count(&f->chip.g) * sizeof *f->analogue);
    fixture_drive(&f->chip, f->x, f->codes, m, 77);
    ohm_mvm_ref(f->sums, &f->chip.g, &f->chip.read, &f->chip.cells, f->x, f->m, f->first_row, 1, 0,
                f->analogue);
}

void fixture_mvm_free(fixture_mvm *f)
{
    free(f->x);
    free(f->codes);
    free(f->sums);
    free(f->analogue);
    fixture_chip_free(&f->chip);
}

/* LSB of a read of output n, weighted as shift-and-add does; how far value is from a threshold. */
static double code_weight(const fixture_chip *c, size_t read, int n)
{
    const ohm_geometry *g = &c->g;
    size_t each = (size_t)g->tiles * ohm_arrays(g);
    int plane = (int)(read / (each * g->slices)) % g->planes,
        slice = (int)(read / each) % g->slices;
    size_t width = c->read.lsb_per_column ? (size_t)g->n : 1,
           at = ((size_t)plane * g->slices + slice) * width + (c->read.lsb_per_column ? n : 0);
    return ldexp(c->lsb[at], plane * g->dac_bits + slice * g->cell_bits);
}

double fixture_mvm_slack(const fixture_mvm *f, const double *analogue, int n, size_t *close_calls)
{
    const fixture_chip *c = &f->chip;
    double allowed = 0.0;
    for (size_t r = 0; c->read.adc_bits > 0 && r < ohm_read_count(&c->g); r++) {
        double value = analogue[r * (size_t)f->n + n];
        if (fabs(fabs(value - floor(value)) - 0.5) < f->threshold) {
            allowed += code_weight(c, r, n);
            (*close_calls)++;
        }
    }
    return allowed;
}

ohm_verdict fixture_mvm_compare(const fixture_mvm *f, const double *got)
{
    const fixture_chip *c = &f->chip;
    ohm_verdict verdict = {.pass = true};
    size_t count = (size_t)f->m * f->n, reads = ohm_read_count(&c->g), close_calls = 0;
    double scale = 0.0;
    for (size_t i = 0; i < count; i++)
        scale = fmax(scale, fabs(f->sums[i]));
    for (size_t i = 0; i < count; i++) {
        const double *analogue = f->analogue + i / f->n * reads * f->n;
        double allowed = f->tolerance * scale +
                         fixture_mvm_slack(f, analogue, (int)(i % f->n), &close_calls);
        if (!(fabs(got[i] - f->sums[i]) <= allowed) && verdict.pass) {
            verdict.pass = false;
            verdict.worst = i;
            snprintf(verdict.text, sizeof verdict.text,
                     "%.160s %dx%dx%d: sum %zu is %.9g, reference %.9g, allowed %.3g (scale %.3g)",
                     f->settings, f->m, f->k, f->n, i, got[i], f->sums[i], allowed, scale);
        }
    }
    /* noise-free currents are whole numbers, so a few do tie exactly; the test must not excuse many */
    if (close_calls >= (size_t)(50.0 * f->threshold * (double)(count * reads)) + 20) {
        verdict.pass = false;
        snprintf(verdict.text, sizeof verdict.text,
                 "%.160s: %zu of %zu values lie on a threshold: too many to be chance", f->settings,
                 close_calls, count * reads);
    }
    return verdict;
}
