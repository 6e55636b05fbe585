/* Figures by gnuplot, which runs as a child process: panels of lines over a common kind of axis. */
#ifndef OHM_HOST_CLI_PLOT_H
#define OHM_HOST_CLI_PLOT_H

#include "host/status.h"

enum { OHM_PLOT_PANELS_MAX = 9 };

typedef enum { OHM_LEGEND_NONE, OHM_LEGEND_INSIDE, OHM_LEGEND_OUTSIDE, OHM_LEGEND_INSIDE_LOW } ohm_legend;

typedef struct {
    const char *name;         /* in the legend */
    int points;
    const double *x, *y;      /* [points]; a NaN leaves a gap */
    const double *error;      /* [points] half lengths of error bars, or NULL */
} ohm_plot_series;

typedef struct {
    const char *title, *x_label, *y_label;
    int log_y;
    int legend;               /* ohm_legend: whether and where this panel names the series */
    int count;
    const ohm_plot_series *series; /* [count] */
} ohm_plot_panel;

/* Draws 1..OHM_PLOT_PANELS_MAX panels, left to right and down. `path` ends in .svg or .png; beside it are
 * written the numbers (.dat) and gnuplot's script (.gp), which can be edited and run again.
 * OHM_ERR_UNSUPPORTED: gnuplot is missing; OHM_ERR_IO: a file cannot be written or gnuplot failed. In
 * both cases of gnuplot, .dat and .gp are there. */
ohm_status ohm_plot_write(const char *path, const ohm_plot_panel *panels, int count);

/* OHM_OK when the picture is what is missing and nothing else: prints one line to stderr and lets the
 * caller go on without it. Any other status comes back unchanged. */
ohm_status ohm_plot_optional(ohm_status status);

#endif
