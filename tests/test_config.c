/* Reading chips and experiments from YAML: what is taken, and that nothing else is. */
#include "host/config.h"

#include <math.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/runner.h"

/* Writes a file into the test's folder and returns its path (static, one at a time). */
static const char *write_bytes(const char *name, const void *data, size_t bytes)
{
    static char path[4096];
    snprintf(path, sizeof path, "%s/%s", ohm_test_tmpdir(), name);
    FILE *file = fopen(path, "wb");
    ck_assert_ptr_nonnull(file);
    ck_assert_uint_eq(fwrite(data, 1, bytes, file), bytes);
    ck_assert_int_eq(fclose(file), 0);
    return path;
}

static const char *write_file(const char *name, const char *text)
{
    return write_bytes(name, text, strlen(text));
}

static ohm_hardware *read_chip(const char *yaml)
{
    ohm_hardware *chip = calloc(1, sizeof *chip);
    OHM_OK_OR_FAIL(ohm_hardware_read(chip, write_file("chip.yaml", yaml)));
    return chip;
}

static void expect_line(ohm_status status, const char *input, const char *expected)
{
    ck_assert_msg(status != OHM_OK, "taken: %s", input);
    ck_assert_msg(strstr(ohm_error_text(), expected), "'%s' lacks '%s'", ohm_error_text(),
                  expected);
    ck_assert_msg(!strchr(ohm_error_text(), '\n'), "more than one line: %s", ohm_error_text());
}

static void refuse_chip(const char *yaml, const char *expected)
{
    ohm_hardware *chip = calloc(1, sizeof *chip);
    expect_line(ohm_hardware_read(chip, write_file("bad.yaml", yaml)), yaml, expected);
    free(chip);
}

static void refuse_experiment(const char *yaml, const char *expected)
{
    ohm_config *config = calloc(1, sizeof *config);
    expect_line(ohm_config_read(config, write_file("bad.yaml", yaml)), yaml, expected);
    free(config);
}

/* ---- chips --------------------------------------------------------------------------------- */

OHM_TEST(config, chip_keys_nest_and_flow)
{
    ohm_hardware *chip = read_chip("name: mine\n"
                                   "tile: {rows: 64, cols: 32, split: even}\n"
                                   "bias: rows\n"
                                   "adc:\n  bits: 8\n  range: calibrated:99.99\n"
                                   "programming:\n  model: polynomial\n  tolerance: .inf\n"
                                   "  coefficients_us: [0.5, -1.25e-1]\n"
                                   "retention: {one_over_f: false}\n"
                                   "cell: {on_off: inf}\n");
    ck_assert_str_eq(chip->name, "mine");
    ck_assert_int_eq(chip->tile.rows, 64);
    ck_assert_int_eq(chip->tile.cols, 32);
    ck_assert_int_eq(chip->tile.split, OHM_SPLIT_EVEN);
    ck_assert_int_eq(chip->bias, OHM_BIAS_ROWS);
    ck_assert_int_eq(chip->adc.range.kind, OHM_ADC_CALIBRATED);
    ck_assert(chip->adc.range.value == 99.99);
    ck_assert_int_eq(chip->programming.coefficients_us.count, 2);
    ck_assert(chip->programming.coefficients_us.at[1] == -0.125);
    ck_assert(isinf(chip->programming.tolerance) && isinf(chip->cell.on_off));
    ck_assert_int_eq(chip->weight.cell_bits, 2); /* untouched: the default */
    free(chip);
}

/* The choices of the table stand in the order of the enums. */
OHM_TEST(config, choices_match_their_enums)
{
    ohm_hardware *chip =
        read_chip("input: {encoding: unsigned}\nweight: {encoding: offset, subtract: digital}\n"
                  "cell: {iv: sinh}\nread: {model: logarithmic, form: per_cell}\n"
                  "programming: {model: pcm, every: once}\n"
                  "retention: {model: pcm, pcm_law: hermes, compensation: column}\n"
                  "ir_drop: {model: closed_form, sense: both_ends, zero_input: grounded}\n"
                  "adc: {bits: 4, range: 2.5, granularity: column}\n"
                  "quantise: {x_range: learned, w_range: percentile}\nnormals: exact\n"
                  "mvm: {precision: fp16}\n");
    ck_assert_int_eq(chip->input.encoding, OHM_INPUT_UNSIGNED);
    ck_assert_int_eq(chip->weight.encoding, OHM_WEIGHT_OFFSET);
    ck_assert_int_eq(chip->weight.subtract, OHM_SUBTRACT_DIGITAL);
    ck_assert_int_eq(chip->cell.iv, OHM_IV_SINH);
    ck_assert_int_eq(chip->read.model, OHM_READ_LOGARITHMIC);
    ck_assert_int_eq(chip->mvm.precision, OHM_MVM_FP16);
    ck_assert_int_eq(chip->read.form, OHM_FORM_PER_CELL);
    ck_assert_int_eq(chip->programming.model, OHM_PROGRAM_PCM);
    ck_assert_int_eq(chip->programming.every, OHM_EVERY_ONCE);
    ck_assert_int_eq(chip->retention.model, OHM_RETENTION_PCM);
    ck_assert_int_eq(chip->retention.pcm_law, OHM_PCM_HERMES);
    ck_assert_int_eq(chip->retention.compensation, OHM_COMPENSATION_COLUMN);
    ck_assert_int_eq(chip->ir_drop.model, OHM_IR_CLOSED_FORM);
    ck_assert_int_eq(chip->ir_drop.sense, OHM_BOTH_ENDS);
    ck_assert_int_eq(chip->ir_drop.zero_input, OHM_ZERO_GROUNDED);
    OHM_OK_OR_FAIL(ohm_hardware_set(chip, "ir_drop.zero_input=gated"));
    ck_assert_int_eq(chip->ir_drop.zero_input, OHM_ZERO_GATED);
    ck_assert_int_eq(chip->adc.range.kind, OHM_ADC_NUMBER);
    ck_assert_int_eq(chip->adc.granularity, OHM_ADC_PER_COLUMN);
    ck_assert_int_eq(chip->quantise.x_range.kind, OHM_RANGE_LEARNED);
    ck_assert_int_eq(chip->quantise.w_range.kind, OHM_RANGE_PERCENTILE);
    ck_assert(chip->quantise.w_range.value == 99.9);
    ck_assert_int_eq(chip->normals, OHM_NORMALS_EXACT);
    free(chip);
}

OHM_TEST(config, bad_values_name_file_line_and_column)
{
    refuse_chip("name: a\nadc:\n  bits: 8.5\n", "bad.yaml:3:9: key 'adc.bits': '8.5' is not a "
                                                "whole number; give a whole number 0..16 bits");
    refuse_chip("adc: {bits: 08}", "bad.yaml:1:13: key 'adc.bits': '08' is not");
    refuse_chip("adc: {bits: 12abc}", "'12abc' is not a whole number");
    refuse_chip("adc: {bits: 17}", "'17' is too large");
    refuse_chip("programming: {sigma: 1e999}", "'1e999' does not fit a double");
    refuse_chip("programming: {sigma: .nan}", "'.nan' is not a number");
    refuse_chip("programming: {sigma: -0.1}", "'-0.1' is too small");
    refuse_chip("programming: {sigma: .inf}", "'.inf' is too large");
    refuse_chip("retention: {one_over_f: maybe}", "'maybe' is neither true nor false");
    refuse_chip("input: {encoding: ofset}", "give offset | two_phase | sign_magnitude | unsigned");
    refuse_chip("mvm: {precision: half}", "key 'mvm.precision': 'half' is not one of the choices; give fp32 | fp16");
    refuse_chip("programming: {coefficients_us: [1, x]}", "'x' is not a number");
    refuse_chip("programming: {coefficients_us: [1, 2, 3, 4, 5, 6, 7, 8, 9]}", "too many numbers");
    refuse_chip("programming: {coefficients_us: [1, [2]]}",
                "bad.yaml:1:36: key 'programming.coefficients_us'");
    refuse_chip("programming: {coefficients_us: 3}", "is not a list");
    refuse_chip("name: \"a\\0b\"", "has no value");
}

OHM_TEST(config, bad_keys_and_shapes)
{
    refuse_chip("adc: {bit: 8}",
                "bad.yaml:1:12: unknown hardware key 'adc.bit'; nearest: 'adc.bits'");
    refuse_chip("acd: {bits: 8}", "unknown hardware key 'acd'");
    refuse_chip("bits: 8", "nearest: 'quantise.bits', 'adc.bits'");
    refuse_chip("adc: {bits: 8, bits: 9}",
                "bad.yaml:1:16: key 'bits' is set a second time, first in line 1");
    refuse_chip("adc: {bits: 8}\ntile: {rows: 2}\nadc: {range: max}",
                "bad.yaml:3:1: key 'adc' is set a second time");
    refuse_chip("adc.bits: 8", "key 'adc.bits': nest it in the file");
    refuse_chip("adc: {bits: }", "key 'adc.bits': has no value");
    refuse_chip("adc: {bits: null}", "has no value");
    refuse_chip("adc: {bits: ~}", "has no value");
    refuse_chip("adc: {bits: [8]}", "takes one value, not a list");
    refuse_chip("adc: {bits: {a: 1}}", "takes one value, not a mapping");
    refuse_chip("adc: 8", "key 'adc': holds keys of its own");
    refuse_chip("adc:", "key 'adc': holds keys of its own");
    refuse_chip("adc: {range: {max: {a: 1}}}", "takes one value");
    refuse_chip("? [a]\n: 1", "a key that is no word");
    refuse_chip("base:", "key 'base': has no value");
}

OHM_TEST(config, yaml_that_no_key_needs)
{
    refuse_chip("name: &a x", "bad.yaml:1:7: an anchor");
    refuse_chip("name: *a", "an alias");
    refuse_chip("name: !!str x", "a tag");
    refuse_chip("name: x\n---\nname: y", "a second document");
    refuse_chip("name: [[[[[[[[[[[[1]]]]]]]]]]]]", "nested deeper than 8 levels");
    refuse_chip("name: [", "no YAML");
    refuse_chip("name: a: b", "bad.yaml:1:8: no YAML");
    refuse_chip("\tname: a", "no YAML");
    refuse_chip("", "holds no keys");
    refuse_chip("# only a comment\n", "holds no keys");
    refuse_chip("- a\n- b\n", "holds no keys");
    refuse_chip("just words", "holds no keys");
    refuse_chip("name: \"\xff\xfe\"", "no UTF-8");
}

OHM_TEST(config, byte_order_mark_is_no_key)
{
    ohm_hardware *chip = read_chip("\xEF\xBB\xBFname: marked\n");
    ck_assert_str_eq(chip->name, "marked");
    free(chip);
}

/* Deep and wide input costs libyaml's quadratic paths nothing. */
OHM_TEST(config, hostile_sizes_end_quickly)
{
    enum { BYTES = 1 << 20 };
    char *text = malloc(BYTES + 2);
    ohm_hardware *chip = calloc(1, sizeof *chip);
    memset(text, '[', BYTES);
    expect_line(ohm_hardware_read(chip, write_bytes("deep.yaml", text, BYTES)), "1 MiB of [",
                "nested deeper");
    memset(text, '{', BYTES);
    expect_line(ohm_hardware_read(chip, write_bytes("deep.yaml", text, BYTES)), "1 MiB of {",
                "nested deeper");
    memset(text, 'a', BYTES + 1);
    expect_line(ohm_hardware_read(chip, write_bytes("long.yaml", text, BYTES + 1)), "over 1 MiB",
                "longer than 1048576");
    memset(text, 0, BYTES);
    expect_line(ohm_hardware_read(chip, write_bytes("zero.yaml", text, BYTES)), "zeroes",
                "zero.yaml");
    free(chip);
    free(text);
}

OHM_TEST(config, files_that_cannot_be_read)
{
    ohm_hardware *chip = calloc(1, sizeof *chip);
    expect_line(ohm_hardware_read(chip, "no/such.yaml"), "missing", "no/such.yaml: cannot open");
    expect_line(ohm_hardware_read(chip, "/"), "directory", "/: is a directory");
    expect_line(ohm_hardware_read(chip, "sonnos"), "preset", "no chip 'sonnos'");
    expect_line(ohm_hardware_read(chip, ""), "nothing", "no chip ''");
    const char *path = write_file("below", "x");
    char deeper[5000];
    snprintf(deeper, sizeof deeper, "%s/chip.yaml", path);
    expect_line(ohm_hardware_read(chip, deeper), "below a file", "cannot open");
    free(chip);
}

/* ---- bases and tables ---------------------------------------------------------------------- */

OHM_TEST(config, base_is_the_starting_point)
{
    write_file("first.yaml", "tile: {rows: 64, cols: 64}\nadc: {bits: 6}\nsource: 'a paper'\n");
    ohm_hardware *chip = read_chip("adc: {bits: 5}\nbase: first.yaml\n");
    ck_assert_str_eq(chip->name, "chip");
    ck_assert_str_eq(chip->source, "a paper");
    ck_assert_int_eq(chip->tile.rows, 64);
    ck_assert_int_eq(chip->adc.bits, 5);
    free(chip);
    chip = read_chip("base: lognormal\nprogramming: {level: 3}\n");
    ck_assert_int_eq(chip->programming.model, OHM_PROGRAM_LOGNORMAL);
    ck_assert(chip->programming.level == 3 && chip->programming.sigma == 0.05);
    free(chip);
}

OHM_TEST(config, base_may_not_loop)
{
    refuse_chip("base: bad.yaml\n", "is its own base");
    write_file("a.yaml", "base: ./b.yaml\n");
    write_file("b.yaml", "base: ./c.yaml\n");
    write_file("c.yaml", "base: ../../../../../../../../../../no\nname: x\n");
    refuse_chip("base: a.yaml\n", "cannot open");
    write_file("c.yaml", "base: a.yaml\n");
    refuse_chip("base: a.yaml\n", "is its own base");
    refuse_chip("base: nonesuch\n", "bad.yaml:1:7: no chip 'nonesuch'");
}

OHM_TEST(config, base_chain_is_bounded)
{
    for (int i = 0; i < 20; i++) {
        char name[32], text[64];
        snprintf(name, sizeof name, "n%d.yaml", i);
        snprintf(text, sizeof text, "base: n%d.yaml\n", i + 1);
        write_file(name, text);
    }
    refuse_chip("base: n0.yaml\n", "more than 8 files deep");
}

OHM_TEST(config, tables_come_from_the_files_folder)
{
    write_file("device.csv",
               "# measured\ntarget,mean,sigma\n0,0.1,0.2\n\n10, 9.5, 0.5\r\n25,24,1e0\n");
    ohm_hardware *chip = read_chip("programming: {model: table, table: device.csv}\n"
                                   "read: {model: table, table: ./device.csv}\n");
    ck_assert_int_eq(chip->programming.rows.count, 3);
    ck_assert_int_eq(chip->read.rows.count, 3);
    ck_assert(chip->programming.rows.target_us[1] == 10);
    ck_assert(chip->programming.rows.mean_us[1] == 9.5);
    ck_assert(chip->programming.rows.sigma_us[2] == 1);
    ck_assert_int_eq(chip->programming.table[0], '/'); /* good from any folder */
    OHM_OK_OR_FAIL(ohm_hardware_set(chip, "programming.table="));
    ck_assert_int_eq(chip->programming.rows.count, 0);
    ck_assert_int_eq(ohm_hardware_check(chip), OHM_ERR_CONFIG);
    free(chip);
}

static void refuse_table(const char *csv, const char *expected)
{
    write_file("device.csv", csv);
    refuse_chip("programming: {model: table, table: device.csv}\n", expected);
}

OHM_TEST(config, bad_tables)
{
    refuse_chip("programming: {model: table, table: none.csv}\n", "key 'programming.table': ");
    refuse_chip("programming: {model: table}\n", "name a CSV");
    refuse_table("", "holds 0 rows");
    refuse_table("1,1,1\n", "holds 1 rows");
    refuse_table("1,1,1\n1,1,1\n", "device.csv:2: target 1 does not exceed");
    refuse_table("2,1,1\n1,1,1\n", "device.csv:2: target 1 does not exceed");
    refuse_table("1,1\n2,1,1\n", "device.csv:1: no row");
    refuse_table("1,1,1,1\n2,1,1\n", "device.csv:1: no row");
    refuse_table("1,1,x\n2,1,1\n", "no row");
    refuse_table("1,1,nan\n2,1,1\n", "no row");
    refuse_table("1,1,0x1\n2,1,1\n", "no row");
    refuse_table("1,1,1e999\n2,1,1\n", "no row");
    refuse_table("1,1,-1\n2,1,1\n", "negative");
    refuse_table("target,mean,sigma\ntarget,mean,sigma\n1,1,1\n2,1,1\n", "device.csv:2: no row");
    refuse_table("1 1 1\n2 1 1\n", "no row");
    char *many = calloc(1, 1 << 16);
    for (int i = 0; i < 257; i++)
        sprintf(many + strlen(many), "%d,1,1\n", i);
    refuse_table(many, "device.csv:257: more than 256 rows");
    free(many);
}

OHM_TEST(config, plugin_path_comes_from_the_files_folder)
{
    char expected[4096];
    write_file("mine.so", "x");
    ohm_hardware *chip = read_chip("simulator: ./mine.so\nsimulator_options: 'a=b, c'\n");
    ck_assert_ptr_nonnull(realpath(ohm_test_tmpdir(), expected));
    strcat(expected, "/mine.so");
    ck_assert_str_eq(chip->simulator, expected);
    ck_assert_str_eq(chip->simulator_options, "a=b, c");
    free(chip);
    refuse_chip("simulator: ./none.so\n", "key 'simulator': ");
}

/* ---- experiments --------------------------------------------------------------------------- */

OHM_TEST(config, experiment_defaults_have_no_chip)
{
    ohm_config *config = calloc(1, sizeof *config);
    OHM_OK_OR_FAIL(ohm_config_read(config, NULL));
    ck_assert_int_eq(config->hardware_enabled, 0);
    ck_assert_int_eq(config->train.mode, OHM_MODE_NOGRAD);
    ck_assert_int_eq(ohm_config_set(config, "hardware.adc.bits=4"), OHM_ERR_CONFIG);
    ck_assert_ptr_nonnull(strstr(ohm_error_text(), "set hardware=NAME first"));
    OHM_OK_OR_FAIL(ohm_config_set(config, "hardware=pcm_ibm"));
    OHM_OK_OR_FAIL(ohm_config_set(config, "hardware.adc.bits=4"));
    ck_assert_int_eq(config->hardware_enabled, 1);
    ck_assert_int_eq(config->hardware.adc.bits, 4);
    ck_assert_int_eq(config->hardware.programming.model, OHM_PROGRAM_PCM);
    OHM_OK_OR_FAIL(ohm_config_set(config, "hardware=none"));
    ck_assert_int_eq(config->hardware_enabled, 0);
    free(config);
}

OHM_TEST(config, experiment_names_its_chip_four_ways)
{
    ohm_config *config = calloc(1, sizeof *config);
    OHM_OK_OR_FAIL(
        ohm_config_read(config, write_file("e.yaml", "hardware: isaac\ntrain: {mode: full}\n")));
    ck_assert_int_eq(config->hardware.adc.bits, 9);
    ck_assert_int_eq(config->train.mode, OHM_MODE_FULL);
    write_file("mine.yaml", "adc: {bits: 3}\n");
    OHM_OK_OR_FAIL(ohm_config_read(config, write_file("e.yaml", "hardware: mine.yaml\n")));
    ck_assert_int_eq(config->hardware.adc.bits, 3);
    ck_assert_str_eq(config->hardware.name, "mine");
    OHM_OK_OR_FAIL(ohm_config_read(
        config,
        write_file("e.yaml",
                   "hardware:\n  base: mine.yaml\n  adc: {range: max}\nseed: 4294967295\n")));
    ck_assert_int_eq(config->hardware.adc.bits, 3);
    ck_assert_int_eq(config->hardware.adc.range.kind, OHM_ADC_MAX);
    ck_assert_int_eq(config->seed, 4294967295);
    OHM_OK_OR_FAIL(ohm_config_read(config, write_file("e.yaml", "hardware: none\n")));
    ck_assert_int_eq(config->hardware_enabled, 0);
    free(config);
}

OHM_TEST(config, bad_experiments)
{
    refuse_experiment("hardware: {adc: {bit: 3}}", "bad.yaml:1:23: unknown hardware key 'adc.bit'");
    refuse_experiment("hardware:", "key 'hardware': give a preset");
    refuse_experiment("hardware: [a]", "key 'hardware': give a preset");
    refuse_experiment("hardware: none\nhardware: none", "set a second time");
    refuse_experiment("hardware: {adc: {bits: 1}}", "bad.yaml: hardware: key 'adc.bits'");
    refuse_experiment("train: {lrr: 1}", "unknown experiment key 'train.lrr'; nearest: 'train.lr'");
    refuse_experiment("train: {batch: 10, micro_batch: 3}", "3 does not divide train.batch = 10");
    refuse_experiment("train: {batch: 10, micro_batch: 20}", "20 does not divide");
    refuse_experiment("train: {epochs: 0}", "both are 0");
    refuse_experiment("train: {keep: 1}", "too small");
    refuse_experiment("seed: -1", "too small");
    refuse_experiment("seed: 4294967296", "too large");
}

OHM_TEST(config, assignments)
{
    ohm_config *config = calloc(1, sizeof *config);
    OHM_OK_OR_FAIL(ohm_config_read(config, NULL));
    OHM_OK_OR_FAIL(ohm_config_set(config, "train.lr=0.5"));
    ck_assert(config->train.lr == 0.5);
    OHM_OK_OR_FAIL(ohm_config_set(config, "name=a=b"));
    ck_assert_str_eq(config->name, "a=b");
    static const char *const bad[] = {"",          "=",          "=1",   "train.lr",
                                      "train.lr=", "train.lr=x", "lr=1", "train=1"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        expect_line(ohm_config_set(config, bad[i]), bad[i], "");
    free(config);
}

/* ---- printing ------------------------------------------------------------------------------ */

static void print_to(const char *path, const ohm_config *config)
{
    FILE *out = fopen(path, "w");
    ck_assert_ptr_nonnull(out);
    ohm_config_print(config, out);
    ck_assert_int_eq(fclose(out), 0);
}

OHM_TEST(config, printed_experiment_reads_back_the_same)
{
    static const char *const chips[] = {"none", "sonos", "rasch2023", "reram_cmo", "ideal"};
    ohm_config *config = calloc(1, sizeof *config), *again = calloc(1, sizeof *again);
    for (size_t i = 0; i < sizeof chips / sizeof chips[0]; i++) {
        char assignment[64];
        OHM_OK_OR_FAIL(ohm_config_read(config, NULL));
        snprintf(assignment, sizeof assignment, "hardware=%s", chips[i]);
        OHM_OK_OR_FAIL(ohm_config_set(config, assignment));
        OHM_OK_OR_FAIL(ohm_config_set(config, "train.lr=0.30000000000000004"));
        OHM_OK_OR_FAIL(ohm_config_set(config, "name=it's: #1 \xc2\xb5S, [null] & \"x\" "));
        OHM_OK_OR_FAIL(ohm_config_set(config, "data.dir=NULL"));
        const char *path = write_file("printed.yaml", "");
        print_to(path, config);
        OHM_OK_OR_FAIL(ohm_config_read(again, path));
        ck_assert_msg(!memcmp(config, again, sizeof *config), "%s came back different", chips[i]);
    }
    free(config);
    free(again);
}

OHM_TEST(config, every_text_reads_back_the_same)
{
    static const char *const names[] = {"",   " ",    "~",  "null", "-",  "- a", ".inf",
                                        "8",  "true", "a:", "a #b", "#",  "'",   "''",
                                        "\"", "%x",   "@x", "`x",   "!x", "*x",  "&x",
                                        "|",  ">",    "{",  "a, b", "?",  "...", "---"};
    ohm_config *config = calloc(1, sizeof *config), *again = calloc(1, sizeof *again);
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        char assignment[64];
        OHM_OK_OR_FAIL(ohm_config_read(config, NULL));
        snprintf(assignment, sizeof assignment, "name=%s", names[i]);
        OHM_OK_OR_FAIL(ohm_config_set(config, assignment));
        const char *path = write_file("printed.yaml", "");
        print_to(path, config);
        OHM_OK_OR_FAIL(ohm_config_read(again, path));
        ck_assert_str_eq(again->name, names[i]);
    }
    free(config);
    free(again);
}
