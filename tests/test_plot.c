#include "host/cli/plot.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "host/file.h"
#include "tests/runner.h"

static const double x[3] = {1, 2, 3}, y[3] = {0.5, NAN, 0.25}, error[3] = {0.1, 0.1, 0.05};
static const ohm_plot_series series[2] = {
    {.name = "it's one_two", .points = 3, .x = x, .y = y, .error = error},
    {.name = "plain", .points = 2, .x = x, .y = x}};
static const ohm_plot_panel panels[2] = {{.title = "first",
                                          .x_label = "level",
                                          .y_label = "value",
                                          .legend = OHM_LEGEND_INSIDE,
                                          .count = 2,
                                          .series = series},
                                         {.title = "second",
                                          .x_label = "level",
                                          .y_label = "value",
                                          .log_y = 1,
                                          .count = 1,
                                          .series = series + 1}};

static const char *in_tmpdir(char path[512], const char *name)
{
    snprintf(path, 512, "%s/%s", ohm_test_tmpdir(), name);
    return path;
}

static char *text_of(const char *name)
{
    char path[512], *text;
    size_t bytes;
    OHM_OK_OR_FAIL(ohm_file_read(&text, &bytes, in_tmpdir(path, name), 1 << 22));
    return text;
}

static void forget_path(void)
{
    ck_assert_int_eq(setenv("PATH", ohm_test_tmpdir(), 1), 0);
}

OHM_TEST(plot, numbers_and_script_are_written)
{
    char path[512];
    forget_path();
    ck_assert_int_eq(ohm_plot_write(in_tmpdir(path, "a.svg"), panels, 2), OHM_ERR_UNSUPPORTED);
    char *data = text_of("a.dat"), *script = text_of("a.gp");
    ck_assert_ptr_nonnull(strstr(
        data, "# first: it's one_two (x, y, error)\n1 0.5 0.1\n2 nan 0.1\n3 0.25 0.05\n\n\n"));
    ck_assert_ptr_nonnull(strstr(data, "# second: plain (x, y)\n1 1\n2 2\n"));
    ck_assert_ptr_nonnull(strstr(script, "index 2 using 1:2 "));
    ck_assert_ptr_nonnull(strstr(script, "title 'it''s one_two'"));
    ck_assert_ptr_nonnull(strstr(script, "set logscale y"));
    free(data);
    free(script);
}

OHM_TEST(plot, companions_are_dashed_in_the_colour_before)
{
    const ohm_plot_series lines[3] = {{.name = "a", .points = 2, .x = x, .y = x},
                                      {.name = "b", .points = 2, .x = x, .y = x, .companion = 1},
                                      {.name = "c", .points = 2, .x = x, .y = x}};
    const ohm_plot_panel panel = {.title = "t",
                                  .x_label = "x",
                                  .y_label = "y",
                                  .log_x = 1,
                                  .y_most = 50,
                                  .count = 3,
                                  .series = lines};
    char path[512];
    forget_path();
    ck_assert_int_eq(ohm_plot_write(in_tmpdir(path, "a.svg"), &panel, 1), OHM_ERR_UNSUPPORTED);
    char *script = text_of("a.gp");
    ck_assert_ptr_nonnull(strstr(script, "lt 1 title 'a'"));
    ck_assert_ptr_nonnull(strstr(script, "lt 1 dt 2 notitle"));
    ck_assert_ptr_nonnull(strstr(script, "lt 2 title 'c'"));
    ck_assert_ptr_nonnull(strstr(script, "set yrange [*:50]\nset logscale x 2\n"));
    free(script);
}

static const double cells[6] = {1, 2, 3, 4, NAN, 6};
static const ohm_plot_map maps[2] = {{"left", "mV", cells, -1, -1}, {"right", "%", cells, 1, 2}};

OHM_TEST(plot, maps_are_square_and_marked)
{
    char path[512];
    forget_path();
    ck_assert_int_eq(
        ohm_plot_maps(in_tmpdir(path, "a.svg"), maps, 2, 2, 3, "bit line", "word line"),
        OHM_ERR_UNSUPPORTED);
    char *data = text_of("a.dat"), *script = text_of("a.gp");
    ck_assert_ptr_nonnull(strstr(
        data, "# left\n1 2 3\n4 nan 6\n\n\n# its mark: column, row\nnan nan\n\n\n# right\n"));
    ck_assert_ptr_nonnull(strstr(data, "# its mark: column, row\n2 1\n"));
    ck_assert_ptr_nonnull(
        strstr(script, "set xrange [-0.5:2.5]\nset yrange [1.5:-0.5]\nset xtics 1\nset ytics 1\n"));
    ck_assert_ptr_nonnull(strstr(script, "set size ratio 0.666666667"));
    ck_assert_ptr_nonnull(strstr(script, "set cblabel '%'"));
    ck_assert_ptr_nonnull(
        strstr(script, "index 2 matrix with image pixels, 'a.dat' index 3 using 1:2"));
    free(data);
    free(script);
    ck_assert_int_eq(ohm_plot_maps(in_tmpdir(path, "a.svg"), maps, 0, 2, 3, "x", "y"),
                     OHM_ERR_ARGUMENT);
}

OHM_TEST(plot, gnuplot_draws_maps)
{
    char path[512];
    if (ohm_test_run(NULL, 0, "command -v gnuplot") != 0)
        OHM_SKIP("gnuplot is not installed");
    OHM_OK_OR_FAIL(ohm_plot_maps(in_tmpdir(path, "a.svg"), maps, 2, 2, 3, "bit line", "word line"));
    char *text = text_of("a.svg");
    ck_assert_ptr_nonnull(strstr(text, "left"));
    ck_assert_ptr_nonnull(strstr(text, "word line"));
    free(text);
    OHM_OK_OR_FAIL(ohm_plot_maps(in_tmpdir(path, "b.png"), maps, 2, 1, 6, "bit line", "word line"));
    OHM_OK_OR_FAIL(ohm_plot_maps(in_tmpdir(path, "c.png"), maps, 2, 6, 1, "bit line", "word line"));
}

OHM_TEST(plot, missing_gnuplot_is_one_line_and_no_failure)
{
    char path[512];
    forget_path();
    ohm_status status = ohm_plot_write(in_tmpdir(path, "a.svg"), panels, 1);
    ck_assert_int_eq(status, OHM_ERR_UNSUPPORTED);
    ck_assert_ptr_nonnull(strstr(ohm_error_text(), "gnuplot is missing; install it (gnuplot-nox)"));
    ck_assert_ptr_null(strchr(ohm_error_text(), '\n'));
    ck_assert_int_eq(ohm_plot_optional(status), OHM_OK);
    ck_assert_int_eq(ohm_plot_optional(OHM_ERR_IO), OHM_ERR_IO);
}

OHM_TEST(plot, gnuplot_draws_both_formats)
{
    static const char *const name[2] = {"a.svg", "b.png"}, *const magic[2] = {"<?xml", "\x89PNG"};
    char path[512];
    if (ohm_test_run(NULL, 0, "command -v gnuplot") != 0)
        OHM_SKIP("gnuplot is not installed");
    for (int i = 0; i < 2; i++) {
        OHM_OK_OR_FAIL(ohm_plot_write(in_tmpdir(path, name[i]), panels, 2));
        char *text = text_of(name[i]);
        ck_assert_int_eq(strncmp(text, magic[i], strlen(magic[i])), 0);
        if (i == 0)
            ck_assert_ptr_nonnull(strstr(text, "it's one_two"));
        free(text);
    }
}

/* A gnuplot that fails, that says it drew and did not, and that is no program. */
OHM_TEST(plot, broken_gnuplot_is_refused)
{
    static const char *const body[3] = {"#!/bin/sh\nexit 3\n", "#!/bin/sh\nexit 0\n", ""};
    char path[512];
    for (int i = 0; i < 3; i++) {
        FILE *fake = fopen(in_tmpdir(path, "gnuplot"), "w");
        ck_assert_ptr_nonnull(fake);
        ck_assert_int_ge(fputs(body[i], fake), 0);
        ck_assert_int_eq(fclose(fake), 0);
        ck_assert_int_eq(chmod(path, i == 2 ? 0644 : 0755), 0);
        forget_path();
        ck_assert_int_eq(ohm_plot_write(in_tmpdir(path, "a.svg"), panels, 1), OHM_ERR_IO);
        ck_assert_ptr_nonnull(strstr(ohm_error_text(), "gnuplot"));
    }
}

OHM_TEST(plot, bad_requests_are_refused)
{
    char path[512];
    ck_assert_int_eq(ohm_plot_write(in_tmpdir(path, "a.pdf"), panels, 1), OHM_ERR_ARGUMENT);
    ck_assert_ptr_nonnull(strstr(ohm_error_text(), ".svg or .png"));
    ck_assert_int_eq(ohm_plot_write(in_tmpdir(path, "a.svg"), panels, 0), OHM_ERR_ARGUMENT);
    ck_assert_int_eq(ohm_plot_write(in_tmpdir(path, "a.svg"), panels, OHM_PLOT_PANELS_MAX + 1),
                     OHM_ERR_ARGUMENT);
    ck_assert_int_eq(ohm_plot_write(in_tmpdir(path, "none/a.svg"), panels, 1), OHM_ERR_IO);
}
