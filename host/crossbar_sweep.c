/* Random tiles and what they lose on their wires. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "host/crossbar.h"
#include "kernels/gemm.h"
#include "kernels/normals.h"
#include "kernels/philox.h"

const char *const ohm_weights_name[OHM_WEIGHTS_COUNT] = {"uniform", "bimodal", "gaussian",
                                                         "half_off"};

/* Two uniform numbers of (0, 1) per cell, or a normal one. */
static double weight_of(ohm_weights weights, const ohm_stream *s, int cell)
{
    uint32_t word[4];
    float z;
    if (weights == OHM_WEIGHTS_GAUSSIAN) {
        ohm_normals_exact_ref(&z, (uint64_t)cell, 1, s);
        return fmin(fabs((double)z) / 3.0, 1.0);
    }
    ohm_stream_block(word, s, (uint64_t)cell);
    double u = (word[0] + 0.5) / 4294967296.0;
    int on = word[1] >> 31;
    return weights == OHM_WEIGHTS_UNIFORM ? u : weights == OHM_WEIGHTS_BIMODAL ? on : on * u;
}

void ohm_crossbar_draw(double *g, int cells, ohm_weights weights, double g_max, double on_off,
                       uint32_t seed, uint32_t tile)
{
    const ohm_stream s = {{seed, 0}, OHM_SITE_USER, tile, 0};
    double g_min = g_max / on_off;
    for (int i = 0; i < cells; i++)
        g[i] = g_min + (g_max - g_min) * weight_of(weights, &s, i);
}

typedef struct {
    double sum, worst; /* over columns that conduct at all */
    int columns;
    ohm_status status;
} loss;

/* Of one tile: column c loses 1 - sum_r g_eff / sum_r g. */
static loss tile_loss(const ohm_sweep_point *point, const ohm_sweep *sweep, uint32_t tile)
{
    int n = point->size;
    size_t cells = (size_t)n * (size_t)n;
    loss result = {0.0, 0.0, 0, OHM_OK};
    ohm_crossbar x = {.network.tile = {n, n, sweep->wires}};
    x.network.tile.wires.word_line = x.network.tile.wires.bit_line = point->ohms;
    double *g = malloc(2 * cells * sizeof *g), *g_eff = g ? g + cells : NULL;
    if (!g) {
        result.status = OHM_FAIL(OHM_ERR_MEMORY, "no memory for a tile of %d x %d", n, n);
        return result;
    }
    ohm_crossbar_draw(g, n * n, point->weights, sweep->g_max, sweep->on_off, sweep->seed, tile);
    x.network.g = g;
    result.status = ohm_crossbar_geff(g_eff, &x, 1, NULL);
    for (int c = 0; c < n && result.status == OHM_OK; c++) {
        double ideal = 0.0, real = 0.0;
        for (int r = 0; r < n; r++) {
            ideal += g[(size_t)r * n + c];
            real += g_eff[(size_t)r * n + c];
        }
        if (ideal == 0.0) /* on/off is infinite and all cells are off */
            continue;
        double lost = 1.0 - real / ideal;
        result.worst = result.columns++ ? fmax(result.worst, lost) : lost;
        result.sum += lost;
    }
    free(g);
    return result;
}

/* NaN where no column conducts. */
static void gather(ohm_sweep_point *point, const loss *lost, int tiles)
{
    double sum = 0.0;
    int columns = 0;
    point->worst = NAN;
    for (int t = 0; t < tiles; t++) {
        sum += lost[t].sum;
        columns += lost[t].columns;
        if (lost[t].columns)
            point->worst = fmax(point->worst, lost[t].worst); /* the number, beside a NaN */
    }
    point->mean = sum / columns;
}

ohm_status ohm_sweep_run(ohm_sweep_point *points, int count, const ohm_sweep *sweep)
{
    int tasks = count * sweep->tiles;
    ohm_status failed = OHM_OK;
    char text[512] = ""; /* errors are recorded per thread: the first one travels to the caller's */
    loss *lost = calloc((size_t)tasks, sizeof *lost);
    if (!lost)
        return OHM_FAIL(OHM_ERR_MEMORY, "no memory for %d tiles", tasks);
    ohm_gemm_one_thread();
#pragma omp parallel for schedule(dynamic)
    for (int i = tasks - 1; i >= 0; i--) {
        lost[i] = tile_loss(&points[i / sweep->tiles], sweep, (uint32_t)(i % sweep->tiles));
        if (lost[i].status != OHM_OK) {
#pragma omp critical
            if (failed == OHM_OK) {
                failed = lost[i].status;
                strncpy(text, ohm_error_text(), sizeof text - 1);
            }
        }
    }
    for (int p = 0; p < count; p++)
        gather(&points[p], lost + p * sweep->tiles, sweep->tiles);
    free(lost);
    return failed == OHM_OK ? OHM_OK : OHM_FAIL(failed, "%s", text);
}
