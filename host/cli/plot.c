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

static void print_head(FILE *out, const files *f, int count)
{
    /* Eight colours that people with any colour vision tell apart (Okabe and Ito 2008). */
    static const char *const colour[] = {"0072b2", "d55e00", "009e73", "cc79a7",
                                         "e69f00", "56b4e9", "000000", "999933"};
    int columns = count < 4 ? count : (int)ceil(sqrt(count)),
        rows = (count + columns - 1) / columns;
    int width = columns * PANEL_WIDTH, height = rows * PANEL_HEIGHT;
    if (f->svg)
        fprintf(
            out,
            "set terminal svg noenhanced size %d,%d dynamic font 'sans,13' background '#ffffff'\n",
            width, height);
    else
        fprintf(out, "set terminal pngcairo noenhanced size %d,%d font 'sans,10'\n", width, height);
    fprintf(out, "set output ");
    quote(out, f->picture);
    fprintf(out, "\nset grid lc rgb '#dddddd'\nset border 3\nset tics nomirror\n");
    for (size_t i = 0; i < sizeof colour / sizeof *colour; i++)
        fprintf(out, "set linetype %zu lc rgb '#%s' lw 1.5 pt %zu ps 0.6\n", i + 1, colour[i],
                i % 2 ? (size_t)9 : (size_t)7);
    fprintf(out, "set linetype cycle %zu\nset autoscale xfix\nset multiplot layout %d,%d\n",
            sizeof colour / sizeof *colour, rows, columns);
}

static void print_panel(FILE *out, const files *f, const ohm_plot_panel *panel, int first_block)
{
    static const char *const legend[] = {"unset key", "set key inside right top",
                                         "set key outside right top",
                                         "set key inside left bottom"};
    fprintf(out, "\nset title ");
    quote(out, panel->title);
    fprintf(out, "\nset xlabel ");
    quote(out, panel->x_label);
    fprintf(out, "\nset ylabel ");
    quote(out, panel->y_label);
    fprintf(out, "\n%s logscale y\n", panel->log_y ? "set" : "unset");
    fprintf(out, "%s\n", legend[panel->legend]);
    fprintf(out, "set offsets graph 0.02, graph 0.02, graph 0.05, graph 0.02\nplot ");
    for (int s = 0; s < panel->count; s++) {
        const ohm_plot_series *series = &panel->series[s];
        fprintf(out, "%s", s ? ", \\\n     " : "");
        quote(out, f->data);
        fprintf(out, " index %d using %s with %s lt %d title ", first_block + s,
                series->error ? "1:2:3" : "1:2",
                series->error                     ? "yerrorlines"
                : series->points <= MARKED_POINTS ? "linespoints"
                                                  : "lines",
                s + 1);
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

typedef struct {
    FILE *stream;
    char *text;
    size_t bytes;
} buffer;

static ohm_status buffer_open(buffer *b)
{
    b->stream = open_memstream(&b->text, &b->bytes);
    return b->stream ? OHM_OK : OHM_FAIL(OHM_ERR_MEMORY, "no memory for a figure");
}

/* Takes what was printed into a file, and frees it. */
static ohm_status buffer_write(buffer *b, const char *folder, const char *name)
{
    char path[2 * OHM_PATH_BYTES];
    int whole = !ferror(b->stream);
    whole &= fclose(b->stream) == 0;
    snprintf(path, sizeof path, "%s%s", folder, name);
    const ohm_file_part part = {b->text, b->bytes};
    ohm_status status = whole ? ohm_file_write_atomic(path, &part, 1)
                              : OHM_FAIL(OHM_ERR_MEMORY, "no memory for %s", path);
    free(b->text);
    return status;
}

static ohm_status write_files(const files *f, const ohm_plot_panel *panels, int count)
{
    buffer data, script;
    OHM_TRY(buffer_open(&data));
    print_data(data.stream, panels, count);
    OHM_TRY(buffer_write(&data, f->folder, f->data));
    OHM_TRY(buffer_open(&script));
    print_script(script.stream, f, panels, count);
    return buffer_write(&script, f->folder, f->script);
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

ohm_status ohm_plot_write(const char *path, const ohm_plot_panel *panels, int count)
{
    files f;
    if (count < 1 || count > OHM_PLOT_PANELS_MAX)
        return OHM_FAIL(OHM_ERR_ARGUMENT, "a figure of %d panels; give 1..%d", count,
                        OHM_PLOT_PANELS_MAX);
    OHM_TRY(name_files(&f, path));
    OHM_TRY(write_files(&f, panels, count));
    return run_gnuplot(&f);
}

ohm_status ohm_plot_optional(ohm_status status)
{
    if (status != OHM_ERR_UNSUPPORTED)
        return status;
    fprintf(stderr, "ohmgrad: %s\n", ohm_error_text());
    return OHM_OK;
}
