/* Figures by gnuplot, which runs as a child process: panels of lines, or heat maps. */
#ifndef OHM_HOST_CLI_PLOT_H
#define OHM_HOST_CLI_PLOT_H

#include "host/status.h"

enum { OHM_PLOT_PANELS_MAX = 9 };

typedef enum { OHM_LEGEND_NONE, OHM_LEGEND_INSIDE, OHM_LEGEND_OUTSIDE, OHM_LEGEND_INSIDE_LOW, OHM_LEGEND_INSIDE_RIGHT_LOW } ohm_legend;

typedef struct {
    const char *name;         /* in the legend */
    int points;
    const double *x, *y;      /* [points]; a NaN leaves a gap */
    const double *error;      /* [points] half lengths of error bars, or NULL */
    int companion;            /* 1: dashed, in the colour of the series before, not in the legend */
} ohm_plot_series;

typedef struct {
    const char *title, *x_label, *y_label;
    int log_x, log_y;
    double y_most;            /* end of the y axis; 0: where the data end */
    int legend;               /* ohm_legend: whether and where this panel names the series */
    int count;
    const ohm_plot_series *series; /* [count] */
} ohm_plot_panel;

/* Whether a figure can be written here: its name, its folder, and no file but another figure's where its
 * numbers (STEM.dat) and script (STEM.gp) go. */
ohm_status ohm_plot_check_name(const char *path);
/* Whether `other` names the numbers or the script of the figure `path`. */
int ohm_plot_is_beside(const char *path, const char *other);

/* Draws 1..OHM_PLOT_PANELS_MAX panels, left to right and down. `path` ends in .svg or .png; beside it are
 * written the numbers (.dat) and gnuplot's script (.gp), which can be edited and run again.
 * OHM_ERR_UNSUPPORTED: gnuplot is missing; OHM_ERR_IO: a file cannot be written or gnuplot failed. In
 * both cases of gnuplot, .dat and .gp are there. */
ohm_status ohm_plot_write(const char *path, const ohm_plot_panel *panels, int count);

/* One matrix as a picture: row 0 at the top, column 0 at the left. */
typedef struct {
    const char *title, *unit;    /* unit: beside the colour bar */
    const double *value;         /* [rows][columns]; a NaN stays grey */
    int mark_row, mark_column;   /* this cell is marked; -1: none */
} ohm_plot_map;

/* Draws 1..OHM_PLOT_PANELS_MAX maps of rows x columns cells, square unless one side is over four times the
 * other. Files and errors as ohm_plot_write. */
ohm_status ohm_plot_maps(const char *path, const ohm_plot_map *maps, int count, int rows, int columns, const char *x_label,
                         const char *y_label);

/* OHM_OK when the picture is what is missing and nothing else: prints one line to stderr and lets the
 * caller go on without it. Any other status comes back unchanged. */
ohm_status ohm_plot_optional(ohm_status status);

#endif
