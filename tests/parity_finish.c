/* Mode full's last step on the device against ohm_mvm_finish_gradient. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/gemm.h"
#include "kernels/mvm_backward.h"
#include "kernels/mvm_backward_cuda.h"
#include "tests/fixture_chip.h"
#include "tests/parity.h"

enum { FAULT = 4 };

/* A chip with random gradients at its cells, and the same on the device. */
typedef struct {
    fixture_chip c;
    ohm_cell_gradient device;
    size_t cells, all, refs;
    float *dw;
} gathered;

static void gather(gathered *p, const char *settings, int k, int n)
{
    fixture_chip *c = &p->c;
    fixture_chip_make(c, settings, k, n, 5, 0.3);
    ohm_gemm_one_thread();
    p->cells = (size_t)k * n;
    p->all = p->cells * (c->g.differential ? 2 : 1);
    p->refs = c->g.differential ? 0 : (size_t)k * c->g.column_tiles;
    ohm_cell_gradient *h = &c->gradient, *d = &p->device;
    fixture_reals(h->dg, p->all, 21);
    fixture_reals(h->dvariance, p->all, 22);
    if (p->refs) {
        fixture_reals(h->dref, p->refs, 23);
        fixture_reals(h->dref_variance, p->refs, 24);
    }
    const struct {
        float *from, **to;
        size_t count;
    } arrays[] = {{h->g, &d->g, p->all},
                  {h->g_eff, &d->g_eff, p->all},
                  {h->slope, &d->slope, p->all},
                  {h->dg, &d->dg, p->all},
                  {h->dvariance, &d->dvariance, p->all},
                  {h->g_ref, &d->g_ref, p->refs},
                  {h->g_ref_eff, &d->g_ref_eff, p->refs},
                  {h->dref, &d->dref, p->refs},
                  {h->dref_variance, &d->dref_variance, p->refs}};
    *d = (ohm_cell_gradient){0};
    for (size_t i = 0; i < sizeof arrays / sizeof *arrays; i++)
        if (arrays[i].count)
            *arrays[i].to = parity_upload(arrays[i].from, arrays[i].count * sizeof(float));
    p->dw = parity_host(p->cells * sizeof *p->dw);
    fixture_reals(p->dw, p->cells, 25);
}

static ohm_cuda_status finish(gathered *p, float *dw, uint32_t *fault)
{
    fixture_chip *c = &p->c;
    float *there = parity_upload(p->dw, p->cells * sizeof *dw);
    uint32_t *faults = parity_upload(fault, sizeof *fault);
    void *scratch = parity_alloc(ohm_mvm_finish_cuda_bytes(&c->g, &c->programming) + 1);
    uint8_t *negative = parity_alloc(p->cells);
    const uint8_t *levels = parity_upload(c->levels, p->all * (size_t)c->g.slices);
    ohm_cuda_status status = ohm_mvm_negative_cuda(negative, &c->g, levels, parity_stream());
    if (status == OHM_CUDA_OK)
        status = ohm_mvm_finish_gradient_cuda(there, &p->device, negative, &c->g, &c->programming,
                                              &c->law, faults, FAULT, scratch, parity_stream());
    if (status == OHM_CUDA_OK)
        status = parity_fetch(dw, there, p->cells * sizeof *dw);
    return status == OHM_CUDA_OK ? parity_fetch(fault, faults, sizeof *fault) : status;
}

/* tolerance: of the largest entry. */
static ohm_verdict check(const char *settings, int k, int n, double tolerance)
{
    gathered p;
    gather(&p, settings, k, n);
    fixture_chip *c = &p.c;
    float *got = parity_host(p.cells * sizeof *got), *left = parity_host(p.all * sizeof *left);
    uint32_t fault = 1;
    double largest = 0.0;
    PARITY_TRY(finish(&p, got, &fault));
    ck_assert_int_eq(ohm_mvm_finish_gradient(p.dw, &c->gradient, c->negative, &c->g,
                                             &c->programming, &c->law, c->scratch),
                     OHM_SOLVE_OK);
    for (size_t i = 0; i < p.cells; i++)
        largest = fmax(largest, fabs((double)p.dw[i]));
    ohm_verdict verdict = ohm_compare_close(got, p.dw, p.cells, tolerance * largest, 0.0);
    if (!verdict.pass) {
        char text[sizeof verdict.text];
        snprintf(text, sizeof text, "%.120s, %dx%d: %.150s", settings, k, n, verdict.text);
        memcpy(verdict.text, text, sizeof text);
    }
    PARITY_CHECK(verdict);
    if (fault != 1)
        return parity_failed("a fault where there is none");
    float *const cleared[] = {p.device.dg, p.device.dvariance, p.device.dref,
                              p.device.dref_variance};
    for (int i = 0; i < (p.refs ? 4 : 2); i++) {
        const size_t count = i < 2 ? p.all : p.refs;
        PARITY_TRY(parity_fetch(left, cleared[i], count * sizeof *left));
        PARITY_CHECK(ohm_compare_zero(left, count));
    }
    fixture_chip_free(c);
    return parity_pass();
}

#define OHMS "ir_drop.r_wordline_ohm=30 ir_drop.r_bitline_ohm=20 ir_drop.r_driver_ohm=50 "
#define PAIR "weight.encoding=differential weight.cell_bits=2 tile.pair=interleaved "
#define DIGITAL                                                                                    \
    "weight.encoding=differential weight.cell_bits=4 weight.subtract=digital cell.on_off=10 "
#define OFFSET "weight.encoding=offset weight.cell_bits=3 "

/* Cells' own part: read variances of every kind, squares that are not full. */
OHM_PARITY(finish_cuda, without_wires)
{
    PARITY_CHECK(check(PAIR "read.model=pcm read.sigma=0.02", 37, 35, 2e-6));
    PARITY_CHECK(check(OFFSET "read.model=proportional read.sigma=0.02", 5, 40, 2e-6));
    return check(DIGITAL "read.model=none", 33, 2, 2e-6);
}

/* Rows and columns that tiles leave unused, references, pairs in one array and in two. */
OHM_PARITY(finish_cuda, closed_form)
{
    PARITY_CHECK(check("ir_drop.model=closed_form " OHMS PAIR "tile.rows=13 tile.cols=10 "
                       "read.model=pcm read.sigma=0.02 tile.split=even",
                       30, 12, 2e-6));
    PARITY_CHECK(check("ir_drop.model=closed_form ir_drop.r_wordline_ohm=0 "
                       "ir_drop.r_bitline_ohm=200 ir_drop.sense=both_ends " DIGITAL
                       "tile.rows=20 tile.cols=7 ",
                       30, 9, 2e-6));
    return check("ir_drop.model=closed_form " OHMS OFFSET "ir_drop.drive=both_ends tile.rows=24 "
                 "tile.cols=9 read.model=constant read.sigma=0.02",
                 30, 13, 2e-6);
}

OHM_PARITY_ALONE(finish_cuda, exact)
{
    PARITY_CHECK(check("ir_drop.model=exact " OHMS PAIR "tile.rows=13 tile.cols=10 "
                       "read.model=pcm read.sigma=0.02 tile.split=even",
                       30, 12, 1e-5));
    PARITY_CHECK(
        check("ir_drop.model=exact ir_drop.sense=both_ends ir_drop.r_sense_ohm=40 " OHMS DIGITAL
              "tile.rows=20 tile.cols=7",
              30, 9, 1e-5));
    PARITY_CHECK(check("ir_drop.model=exact ir_drop.gradient=closed_form " OHMS OFFSET
                       "tile.rows=24 tile.cols=9 read.model=proportional read.sigma=0.02",
                       30, 13, 2e-6));
    return check("ir_drop.model=exact " OHMS OFFSET
                 "ir_drop.drive=both_ends tile.rows=24 tile.cols=9 "
                 "read.model=constant read.sigma=0.02",
                 30, 13, 1e-5);
}

/* A gradient that is no number sets the fault, beside what the word held. */
OHM_PARITY_ALONE(finish_cuda, says_what_has_no_gradient)
{
    gathered p;
    gather(&p, "ir_drop.model=exact " OHMS PAIR "tile.rows=13 tile.cols=10", 30, 12);
    float *dw = parity_host(p.cells * sizeof *dw);
    uint32_t fault = 1;
    p.c.gradient.dg[17] = NAN;
    p.device.dg = parity_upload(p.c.gradient.dg, p.all * sizeof(float));
    PARITY_TRY(finish(&p, dw, &fault));
    fixture_chip_free(&p.c);
    return fault == (1 | FAULT) ? parity_pass() : parity_failed("no fault");
}
