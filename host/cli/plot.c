#include "host/cli/plot.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "host/file.h"
#include "host/hardware.h"

enum { PANEL_WIDTH = 560, PANEL_HEIGHT = 400, MARKED_POINTS = 40 };
enum {
    MAP_PIXELS = 400,
    MAP_AROUND_X = 190,
    MAP_AROUND_Y = 110,
    MAP_POLYGONS = 4096
}; /* labels, tics, colour bar */

extern char **environ;

/* Where a figure's files go. Names are relative to `folder`, where gnuplot runs. */
typedef struct {
    char folder[OHM_PATH_BYTES], picture[OHM_PATH_BYTES], data[OHM_PATH_BYTES],
        script[OHM_PATH_BYTES];
    int svg;
} files;

static ohm_status name_files(files *f, const char *path)
{
    const char *slash = strrchr(path, '/'), *name = slash ? slash + 1 : path;
    const char *dot = strrchr(name, '.');
    if (strlen(path) + 4 >= OHM_PATH_BYTES)
        return OHM_FAIL(OHM_ERR_ARGUMENT, "the path '%.60s...' is too long", path);
    if (!dot || (strcmp(dot, ".svg") != 0 && strcmp(dot, ".png") != 0))
        return OHM_FAIL(OHM_ERR_ARGUMENT, "%s: a figure's name ends in .svg or .png", path);
    int stem = (int)(dot - name);
    f->svg = strcmp(dot, ".svg") == 0;
    snprintf(f->folder, sizeof f->folder, "%.*s", slash ? (int)(slash - path) + 1 : 2,
             slash ? path : "./");
    snprintf(f->picture, sizeof f->picture, "%s", name);
    snprintf(f->data, sizeof f->data, "%.*s.dat", stem, name);
    snprintf(f->script, sizeof f->script, "%.*s.gp", stem, name);
    return OHM_OK;
}

ohm_status ohm_plot_check_name(const char *path)
{
    files f;
    char data[2 * OHM_PATH_BYTES], script[2 * OHM_PATH_BYTES];
    struct stat seen;
    OHM_TRY(name_files(&f, path));
    snprintf(data, sizeof data, "%s%s", f.folder, f.data);
    snprintf(script, sizeof script, "%s%s", f.folder, f.script);
    if (stat(data, &seen) == 0 && stat(script, &seen) != 0)
        return OHM_FAIL(OHM_ERR_ARGUMENT,
                        "%s is in the way: the numbers of %s would go there; move it or name the "
                        "picture otherwise",
                        data, path);
    OHM_TRY(ohm_file_check_writable(path));
    OHM_TRY(ohm_file_check_writable(data));
    return ohm_file_check_writable(script);
}

int ohm_plot_is_beside(const char *path, const char *other)
{
    const char *dot = strrchr(path, '.');
    size_t stem = dot ? (size_t)(dot - path) : 0;
    return dot && !strncmp(path, other, stem) &&
           (!strcmp(other + stem, ".dat") || !strcmp(other + stem, ".gp"));
}

/* ---- the numbers and the script ------------------------------------------------------------ */

/* Text in gnuplot's single quotes. */
static void quote(FILE *out, const char *text)
{
    fputc('\'', out);
    for (; *text; text++)
        fprintf(out, *text == '\'' ? "''" : *text == '\n' ? " " : "%c", *text);
    fputc('\'', out);
}

/* One block per series, in order of panels; two empty lines between blocks are gnuplot's `index`. */
static void print_data(FILE *out, const ohm_plot_panel *panels, int count)
{
    for (int p = 0; p < count; p++)
        for (int s = 0; s < panels[p].count; s++) {
            const ohm_plot_series *series = &panels[p].series[s];
            fprintf(out, "# %s: %s%s\n", panels[p].title, series->name,
                    series->error ? " (x, y, error)" : " (x, y)");
            for (int i = 0; i < series->points; i++) {
                fprintf(out, "%.9g %.9g", series->x[i], series->y[i]);
                fprintf(out, series->error ? " %.9g\n" : "\n",
                        series->error ? series->error[i] : 0);
            }
            fprintf(out, "\n\n");
        }
}

static void print_terminal(FILE *out, const files *f, int width, int height)
{
    if (f->svg)
        fprintf(
            out,
            "set terminal svg noenhanced size %d,%d dynamic font 'sans,13' background '#ffffff'\n",
            width, height);
    else
        fprintf(out, "set terminal pngcairo noenhanced size %d,%d font 'sans,10'\n", width, height);
    fprintf(out, "set output ");
    quote(out, f->picture);
    fprintf(out, "\n");
}

static void print_head(FILE *out, const files *f, int count)
{
    /* Eight colours that people with any colour vision tell apart (Okabe and Ito 2008). */
    static const char *const colour[] = {"0072b2", "d55e00", "009e73", "cc79a7",
                                         "e69f00", "56b4e9", "000000", "999933"};
    int columns = count < 4 ? count : (int)ceil(sqrt(count)),
        rows = (count + columns - 1) / columns;
    print_terminal(out, f, columns * PANEL_WIDTH, rows * PANEL_HEIGHT);
    fprintf(out, "set grid lc rgb '#dddddd'\nset border 3\nset tics nomirror\n");
    for (size_t i = 0; i < sizeof colour / sizeof *colour; i++)
        fprintf(out, "set linetype %zu lc rgb '#%s' lw 1.5 pt %zu ps 0.6\n", i + 1, colour[i],
                i % 2 ? (size_t)9 : (size_t)7);
    fprintf(out, "set linetype cycle %zu\nset autoscale xfix\nset multiplot layout %d,%d\n",
            sizeof colour / sizeof *colour, rows, columns);
}

static void print_panel(FILE *out, const files *f, const ohm_plot_panel *panel, int first_block)
{
    static const char *const legend[] = {"unset key", "set key inside right top",
                                         "set key outside right top", "set key inside left bottom",
                                         "set key inside right bottom"};
    fprintf(out, "\nset title ");
    quote(out, panel->title);
    fprintf(out, "\nset xlabel ");
    quote(out, panel->x_label);
    fprintf(out, "\nset ylabel ");
    quote(out, panel->y_label);
    fprintf(out, "\n%s logscale y\n", panel->log_y ? "set" : "unset");
    fprintf(out, panel->y_most > 0.0 ? "set yrange [*:%.9g]\n" : "set autoscale y\n",
            panel->y_most);
    fprintf(out, panel->log_x ? "set logscale x 2\n" : "unset logscale x\n");
    fprintf(out, "%s\n", legend[panel->legend]);
    fprintf(out, "set offsets graph 0.02, graph 0.02, graph 0.05, graph 0.02\nplot ");
    for (int s = 0, colour = 0; s < panel->count; s++) {
        const ohm_plot_series *series = &panel->series[s];
        colour += !series->companion;
        fprintf(out, "%s", s ? ", \\\n     " : "");
        quote(out, f->data);
        fprintf(out, " index %d using %s with %s lt %d %s", first_block + s,
                series->error ? "1:2:3" : "1:2",
                series->error                     ? "yerrorlines"
                : series->points <= MARKED_POINTS ? "linespoints"
                                                  : "lines",
                colour, series->companion ? "dt 2 notitle" : "title ");
        if (!series->companion)
            quote(out, series->name);
    }
    fprintf(out, "\n");
}

static void print_script(FILE *out, const files *f, const ohm_plot_panel *panels, int count)
{
    int block = 0;
    print_head(out, f, count);
    for (int p = 0; p < count; p++) {
        print_panel(out, f, &panels[p], block);
        block += panels[p].count;
    }
    fprintf(out, "unset multiplot\n");
}

/* Where the numbers and the script go. */
static ohm_status open_text(ohm_file_text *text, char path[2 * OHM_PATH_BYTES], const files *f,
                            const char *name)
{
    snprintf(path, 2 * OHM_PATH_BYTES, "%s%s", f->folder, name);
    return ohm_file_text_open(text, path);
}

static ohm_status write_files(const files *f, const ohm_plot_panel *panels, int count)
{
    ohm_file_text data, script;
    char path[2 * OHM_PATH_BYTES];
    OHM_TRY(open_text(&data, path, f, f->data));
    print_data(data.stream, panels, count);
    OHM_TRY(ohm_file_text_write(&data, path));
    OHM_TRY(open_text(&script, path, f, f->script));
    print_script(script.stream, f, panels, count);
    return ohm_file_text_write(&script, path);
}

/* ---- gnuplot ------------------------------------------------------------------------------- */

/* Starts it in the figure's folder, silent; returns errno's number. */
static int start_gnuplot(pid_t *child, const files *f)
{
    char *const argv[] = {"gnuplot", (char *)f->script, NULL};
    posix_spawn_file_actions_t actions;
    int error = posix_spawn_file_actions_init(&actions);
    if (error)
        return error;
    for (int fd = 0; fd < 3 && !error; fd++)
        error = posix_spawn_file_actions_addopen(&actions, fd, "/dev/null",
                                                 fd ? O_WRONLY : O_RDONLY, 0);
    if (!error)
        error = posix_spawn_file_actions_addchdir_np(&actions, f->folder);
    if (!error)
        error = posix_spawnp(child, "gnuplot", &actions, NULL, argv, environ);
    posix_spawn_file_actions_destroy(&actions);
    return error;
}

static ohm_status run_gnuplot(const files *f)
{
    pid_t child;
    int ended = 0, error = start_gnuplot(&child, f);
    if (error == ENOENT)
        return OHM_FAIL(OHM_ERR_UNSUPPORTED,
                        "%s%s is not drawn: gnuplot is missing; install it (gnuplot-nox), then "
                        "cd %s && gnuplot %s",
                        f->folder, f->picture, f->folder, f->script);
    if (error)
        return OHM_FAIL(OHM_ERR_IO, "cannot start gnuplot: %s", strerror(error));
    while (waitpid(child, &ended, 0) < 0)
        if (errno != EINTR)
            return OHM_FAIL(OHM_ERR_IO, "cannot wait for gnuplot: %s", strerror(errno));
    char path[2 * OHM_PATH_BYTES];
    struct stat drawn;
    snprintf(path, sizeof path, "%s%s", f->folder, f->picture);
    if (ended != 0 || stat(path, &drawn) != 0 || drawn.st_size == 0)
        return OHM_FAIL(OHM_ERR_IO, "gnuplot did not draw %s; to see why: cd %s && gnuplot %s",
                        path, f->folder, f->script);
    return OHM_OK;
}

static ohm_status check_count(int count)
{
    if (count < 1 || count > OHM_PLOT_PANELS_MAX)
        return OHM_FAIL(OHM_ERR_ARGUMENT, "a figure of %d panels; give 1..%d", count,
                        OHM_PLOT_PANELS_MAX);
    return OHM_OK;
}

ohm_status ohm_plot_write(const char *path, const ohm_plot_panel *panels, int count)
{
    files f;
    OHM_TRY(check_count(count));
    OHM_TRY(name_files(&f, path));
    OHM_TRY(write_files(&f, panels, count));
    return run_gnuplot(&f);
}

/* ---- heat maps ----------------------------------------------------------------------------- */

/* A block per map, and one with its mark. */
static void print_map_data(FILE *out, const ohm_plot_map *maps, int count, int rows, int columns)
{
    for (int m = 0; m < count; m++) {
        fprintf(out, "# %s\n", maps[m].title);
        for (int r = 0; r < rows; r++)
            for (int c = 0; c < columns; c++)
                fprintf(out, "%.7g%c", maps[m].value[(size_t)r * columns + c],
                        c + 1 < columns ? ' ' : '\n');
        fprintf(out, "\n\n# its mark: column, row\n");
        if (maps[m].mark_row >= 0)
            fprintf(out, "%d %d\n", maps[m].mark_column, maps[m].mark_row);
        else
            fprintf(out, "nan nan\n");
        fprintf(out, "\n\n");
    }
}

/* Every so many cells: 1, 2 or 5 times a power of ten, 45 pixels or more apart. */
static int tic_step(int cells, int pixels)
{
    static const int step[] = {1, 2, 5};
    for (int power = 1, i = 0;; i++, power *= i % 3 ? 1 : 10)
        if (cells * 45.0 <= (double)pixels * step[i % 3] * power)
            return step[i % 3] * power;
}

/* Sides of a map in pixels. */
static void map_size(int *width, int *height, int rows, int columns)
{
    double ratio = (double)columns / rows;
    ratio = ratio < 0.25 ? 0.25 : ratio > 4.0 ? 4.0 : ratio;
    *width = ratio >= 1.0 ? (ratio > 2.0 ? 2 : 1) * MAP_PIXELS : (int)(MAP_PIXELS * ratio);
    *height = (int)(*width / ratio);
}

static void print_map_head(FILE *out, const files *f, int count, int rows, int columns)
{
    int width, height, across = columns > 2 * rows ? 1 : count, down = count / across;
    map_size(&width, &height, rows, columns);
    print_terminal(out, f, across * (width + MAP_AROUND_X), down * (height + MAP_AROUND_Y));
    /* Seven stops of viridis, even in lightness and readable without colour vision. */
    fprintf(out,
            "set palette defined (0 '#440154', 1 '#443983', 2 '#31688e', 3 '#21918c', "
            "4 '#35b779', 5 '#90d743', 6 '#fde725')\n"
            "set border 15\nset tics out nomirror\nset datafile missing 'nan'\nunset key\n"
            "set xrange [-0.5:%g]\nset yrange [%g:-0.5]\nset xtics %d\nset ytics %d\n"
            "set object 1 rectangle from graph 0,0 to graph 1,1 behind fc rgb '#bbbbbb' "
            "fs noborder\n",
            columns - 0.5, rows - 0.5, tic_step(columns, width), tic_step(rows, height));
    if (columns <= 4 * rows && rows <= 4 * columns)
        fprintf(out, "set size ratio %.9g\n", (double)rows / columns);
    fprintf(out, "set multiplot layout %d,%d\n", down, across);
}

static void print_map(FILE *out, const files *f, const ohm_plot_map *map, int index, size_t cells)
{
    fprintf(out, "\nset title ");
    quote(out, map->title);
    fprintf(out, "\nset cblabel ");
    quote(out, map->unit);
    fprintf(out, " offset 1,0\nplot ");
    quote(out, f->data);
    /* An SVG holds a picture that viewers blur when they scale it, or a polygon per cell. */
    fprintf(out, " index %d matrix with image%s", 2 * index,
            f->svg && cells <= MAP_POLYGONS ? " pixels" : "");
    if (map->mark_row >= 0) {
        for (int i = 0; i < 2; i++) { /* white on black: seen on any colour */
            fprintf(out, ", ");
            quote(out, f->data);
            fprintf(out, " index %d using 1:2 with points pt 6 ps 1.6 lw %d lc rgb '%s'",
                    2 * index + 1, i ? 2 : 5, i ? "white" : "black");
        }
    }
    fprintf(out, "\n");
}

static ohm_status write_map_files(const files *f, const ohm_plot_map *maps, int count, int rows,
                                  int columns, const char *x_label, const char *y_label)
{
    ohm_file_text data, script;
    char path[2 * OHM_PATH_BYTES];
    OHM_TRY(open_text(&data, path, f, f->data));
    print_map_data(data.stream, maps, count, rows, columns);
    OHM_TRY(ohm_file_text_write(&data, path));
    OHM_TRY(open_text(&script, path, f, f->script));
    print_map_head(script.stream, f, count, rows, columns);
    fprintf(script.stream, "set xlabel ");
    quote(script.stream, x_label);
    fprintf(script.stream, "\nset ylabel ");
    quote(script.stream, y_label);
    for (int m = 0; m < count; m++)
        print_map(script.stream, f, &maps[m], m, (size_t)rows * (size_t)columns);
    fprintf(script.stream, "unset multiplot\n");
    return ohm_file_text_write(&script, path);
}

ohm_status ohm_plot_maps(const char *path, const ohm_plot_map *maps, int count, int rows,
                         int columns, const char *x_label, const char *y_label)
{
    files f;
    OHM_TRY(check_count(count));
    OHM_TRY(name_files(&f, path));
    OHM_TRY(write_map_files(&f, maps, count, rows, columns, x_label, y_label));
    return run_gnuplot(&f);
}

ohm_status ohm_plot_optional(ohm_status status)
{
    if (status != OHM_ERR_UNSUPPORTED)
        return status;
    fprintf(stderr, "ohmgrad: %s\n", ohm_error_text());
    return OHM_OK;
}
