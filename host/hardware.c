/* The keys of one chip: the one table of their types, bounds, units, defaults and help. The
 * defaults are the ideal chip: the structure of a usual crossbar with every effect off. */
#include "host/hardware.h"

#include <math.h>
#include <string.h>

#include "host/config.h"
#include "host/device_table.h"

#define OHM_ROWS_OF ohm_hardware
#include "host/option_rows.h"

static const ohm_option rows[] = {
    TEXT(name, "ideal", "what the chip is called in reports"),
    TEXT(source, "", "where the numbers come from: paper, equation or table"),
    TEXT(simulator, "analog",
         "analog (built in), a registered name, or the path of a plug-in ending in .so"),
    TEXT(simulator_options, "", "text handed to a plug-in as it stands"),

    INT(quantise.bits, 2, 8, "8", "bits",
        "codes of x and w run from -(2^(bits-1)-1) to 2^(bits-1)-1"),
    MODE(quantise.x_range, "absmax|percentile:99.9:50:100|running:0.99:0:0.999999|learned|number",
         1e-30, 1e30, "absmax", "in units of x",
         "full scale of x: largest |x|, a percentile of it, its running mean with this decay, "
         "trained, or fixed"),
    CHOICE(quantise.x_granularity, "tensor|row", "tensor",
           "one scale for x, or one for each of its rows"),
    MODE(quantise.w_range, "absmax|percentile:99.9:50:100|running:0.99:0:0.999999|learned|number",
         1e-30, 1e30, "absmax", "in units of w",
         "full scale of w, as x_range, but neither running nor learned"),
    CHOICE(quantise.w_granularity, "tensor|channel", "tensor",
           "one scale for w, or one for each output"),

    CHOICE(input.encoding, "offset|two_phase|sign_magnitude|unsigned", "offset",
           "how signed inputs are driven; unsigned checks x >= 0"),
    CHOICE(input.correction, "calibrated|nominal", "calibrated",
           "offset inputs: subtract the chip's own response to the offset, or the ideal one"),
    INT(input.dac_bits, 1, 8, "1", "bits", "input bits per read: 1 is bit-serial, 8 one shot"),
    REAL(input.v_read_v, 1e-3, 10, "0.2", "V", "read voltage of the largest digit"),
    REAL(input.noise, 0, 10, "0", "DAC steps", "sigma of a drive level, common to all columns"),
    REAL(input.inl, 0, 10, "0", "DAC steps", "peak of the DAC's cubic integral non-linearity"),

    CHOICE(weight.encoding, "differential|offset", "differential",
           "a pair of cells per weight, or one cell around an offset"),
    INT(weight.cell_bits, 1, 8, "2", "bits",
        "bits per cell; weights are sliced over as many cells as they need"),
    CHOICE(weight.subtract, "analog|digital", "analog",
           "whether currents subtract before the ADC or codes after it"),

    INT(tile.rows, 1, 65536, "128", "word lines", "rows of a tile"),
    INT(tile.cols, 1, 65536, "128", "bit lines", "physical columns of a tile"),
    CHOICE(tile.split, "fill|even", "fill", "513 rows over tiles of 512: 512 + 1, or 257 + 256"),
    CHOICE(tile.pair, "separate|interleaved", "separate",
           "the signs of a pair in arrays of their own, or side by side in one"),
    CHOICE(bias, "digital|rows", "digital",
           "bias added after the ADC, or on rows that are always driven"),

    REAL(cell.g_max_us, 1e-6, 1e6, "25", "uS", "largest conductance of a cell"),
    REAL(cell.on_off, 1.001, INFINITY, "100", "",
         "largest over smallest conductance; inf is no off current"),
    CHOICE(cell.iv, "linear|cubic|sinh", "linear",
           "current over voltage of a cell, G V_read at V_read in every case"),
    REAL(cell.iv_coefficient, 0, 1e4, "0", "1/V^2 (cubic) or 1/V (sinh)",
         "k of G (V - k V^3), a of sinh(a V)"),

    CHOICE(programming.model,
           "none|lognormal|gaussian|proportional|polynomial|exponential|table|pcm", "none",
           "spread of a programmed conductance"),
    REAL(programming.sigma, 0, 10, "0.05",
         "(of G: proportional; of g_max: gaussian; exponent: lognormal)", "strength of the spread"),
    REAL(programming.level, 0, 1e3, "1", "",
         "the paper's noise level: multiplies sigma of every model"),
    REALS(programming.coefficients_us, "polynomial: sigma in uS, ascending powers of G/g_max; "
                                       "exponential: A, B of A (1 - exp(-G/B)) in uS"),
    REAL(programming.tolerance, 0.01, INFINITY, "inf", "sigmas",
         "write-verify: draws are truncated here"),
    TEXT(programming.table, "",
         "table: CSV of target, mean, sigma in uS; relative to the file that names it"),
    CHOICE(programming.every, "step|once", "step", "programme anew at each step, or keep one chip"),

    REAL(faults.stuck_off, 0, 1, "0", "", "share of cells stuck at the smallest conductance"),
    REAL(faults.stuck_on, 0, 1, "0", "", "share of cells stuck at the largest conductance"),
    REAL(faults.stuck_random, 0, 1, "0", "", "share of cells stuck at a random level"),

    CHOICE(read.model, "none|constant|proportional|polynomial|table|pcm|logarithmic", "none",
           "cycle-to-cycle noise of a cell, per read"),
    REAL(read.sigma, 0, 10, "0", "(of g_max: constant, pcm; of G: proportional; uS: logarithmic)",
         "pcm: sigma g_max sqrt(G/g_max); logarithmic: sigma log10(G/uS) sqrt(ln((t + t_read)/(2 "
         "t_read)))"),
    CHOICE(read.form, "aggregate|per_cell", "aggregate",
           "one draw per bit line, or one per cell: the same distribution"),
    REALS(read.coefficients_us, "polynomial: sigma in uS, ascending powers of G/g_max"),
    TEXT(read.table, "", "table: CSV of conductance, mean, sigma in uS; the mean is not used"),

    REAL(temperature.kelvin, 1, 2000, "300", "K", "temperature in use"),
    REAL(temperature.reference_kelvin, 1, 2000, "300", "K", "temperature at programming"),
    REAL(temperature.activation_ev, -5, 5, "0", "eV",
         "activation energy of the conductance (Arrhenius)"),
    REAL(temperature.activation_sigma_ev, 0, 1, "0", "eV", "its spread over cells"),
    REAL(temperature.wire_tcr_per_k, -0.1, 0.1, "0", "1/K",
         "temperature coefficient of the wires' resistance"),
    REAL(temperature.johnson_bandwidth_hz, 0, 1e12, "0", "Hz",
         "bandwidth of the cells' thermal noise"),

    CHOICE(retention.model, "none|power_law|logarithmic|pcm", "none",
           "how conductances change with time"),
    REAL(retention.time_s, 0, 1e12, "0", "s", "time since programming at evaluation"),
    REAL(retention.t0_s, 1e-9, 1e9, "20", "s", "power_law, pcm: time of the reference conductance"),
    REAL(retention.t_read_s, 1e-12, 1e3, "2.5e-7", "s", "duration of a read, for 1/f noise"),
    BOOL(retention.one_over_f, "false", "pcm: add the 1/f noise accumulated at time_s"),
    REAL(retention.nu, 0, 2, "0.05", "", "power_law: mean drift exponent"),
    REAL(retention.nu_sigma, 0, 1, "0", "", "power_law: its spread over cells"),
    REAL(retention.log_scale, 0, 10, "1", "", "logarithmic: a of the mean a G - b ln t"),
    REAL(retention.log_slope_us, -1e6, 1e6, "0", "uS",
         "logarithmic: b of the mean a G - b ln t, t in s"),
    REAL(retention.log_sigma_us, 0, 1e6, "0", "uS", "logarithmic: c of the spread c + d ln t"),
    REAL(retention.log_sigma_slope_us, 0, 1e6, "0", "uS",
         "logarithmic: d of the spread c + d ln t"),
    REAL(retention.floor_us, 0, 1e6, "0", "uS", "lowest conductance after retention"),
    CHOICE(retention.pcm_law, "nandakumar|hermes", "nandakumar",
           "pcm: whose fit of the drift exponent and of the 1/f noise"),
    CHOICE(retention.compensation, "none|global|column", "none",
           "rescale sums by a calibration read at time_s"),

    CHOICE(ir_drop.model, "none|exact|closed_form", "none",
           "voltage lost on the wires; exact is solved once per programming, but once per read "
           "(slow: a read costs what programming does) with gated rows or cells that are not linear"),
    REAL(ir_drop.r_wordline_ohm, 0, 1e6, "1", "ohm", "word line, per cell"),
    REAL(ir_drop.r_bitline_ohm, 0, 1e6, "1", "ohm", "bit line, per cell"),
    REAL(ir_drop.r_driver_ohm, 0, 1e6, "0", "ohm", "driver of a word line"),
    REAL(ir_drop.r_sense_ohm, 0, 1e6, "0", "ohm", "input of the sense amplifier"),
    CHOICE(ir_drop.drive, "one_end|both_ends", "one_end", "where word lines are driven"),
    CHOICE(ir_drop.sense, "one_end|both_ends", "one_end", "where bit lines are sensed"),
    CHOICE(ir_drop.zero_input, "grounded|gated", "grounded",
           "a zero digit grounds its word line, or cuts it off (1T1R)"),
    CHOICE(ir_drop.gradient, "exact|closed_form", "exact",
           "exact, in mode full: the derivative of the wires, or that of the closed form, which is "
           "cheaper and approximate"),

    INT(adc.bits, 0, 16, "0", "bits", "resolution; 0 is no conversion"),
    MODE(adc.range, "max|granular|data|calibrated:100:50:100|running:0.99:0:0.999999|number", 1e-12,
         1e12, "calibrated:100", "uA",
         "full scale: worst case, one step per unit, this batch, a percentile over calibration "
         "batches, running mean, or fixed"),
    CHOICE(adc.granularity, "layer|column", "layer",
           "one range per layer or per column, always per plane and slice"),
    REAL(adc.noise_lsb, 0, 100, "0", "LSB", "sigma of the thermal noise of a conversion"),
    REAL(adc.gain_sigma, 0, 1, "0", "", "spread of the gain over columns"),
    REAL(adc.offset_sigma_lsb, 0, 1e3, "0", "LSB", "spread of the offset over columns"),
    REAL(adc.inl_lsb, 0, 100, "0", "LSB", "peak of the integral non-linearity"),

    REAL(output.s_shape, 0, 100, "0", "",
         "n of the column's S-shape y (1 + n)/(1 + n |y|), y in full scales"),
    REAL(output.s_shape_sigma, 0, 100, "0", "", "its spread over columns"),
    BOOL(output.per_column_scale, "false", "a trained scale per output column"),

    CHOICE(normals, "fast|exact", "fast", "generator of the draws made per conversion"),
    CHOICE(mvm.precision, "fp32|fp16", "fp32",
           "conductances that a read multiplies by, on every device alike; tensor cores need fp16"),
};

const ohm_option_table ohm_hardware_options = {"hardware", rows, sizeof rows / sizeof rows[0]};

/* ---- what involves several keys ------------------------------------------------------------ */

#define REFUSE(...) return OHM_FAIL(OHM_ERR_CONFIG, __VA_ARGS__)

static ohm_status check_mapping(const ohm_hardware *h)
{
    int w_range = h->quantise.w_range.kind;
    if (w_range == OHM_RANGE_LEARNED || w_range == OHM_RANGE_RUNNING)
        REFUSE("key 'quantise.w_range': running and learned ranges are for x, whose next values "
               "nobody knows; give absmax, percentile or a number");
    if (h->bias == OHM_BIAS_ROWS && h->quantise.x_granularity == OHM_X_ROW)
        REFUSE("key 'bias': 'rows' needs one scale for x; set quantise.x_granularity to tensor, or "
               "bias to digital");
    if (h->tile.pair == OHM_PAIR_INTERLEAVED && h->weight.encoding != OHM_WEIGHT_DIFFERENTIAL)
        REFUSE("key 'tile.pair': 'interleaved' needs pairs; set weight.encoding to differential, "
               "or tile.pair to separate");
    if (h->tile.pair == OHM_PAIR_INTERLEAVED && h->tile.cols < 2)
        REFUSE("key 'tile.cols': %d holds no interleaved pair; give at least 2", h->tile.cols);
    if (h->quantise.x_granularity == OHM_X_ROW && (h->quantise.x_range.kind == OHM_RANGE_RUNNING ||
                                                   h->quantise.x_range.kind == OHM_RANGE_LEARNED))
        REFUSE("key 'quantise.x_range': a running or learned range is one number; set "
               "quantise.x_granularity to tensor");
    double v = h->input.v_read_v, a = h->cell.iv_coefficient;
    if (h->cell.iv == OHM_IV_CUBIC && a * v * v >= 1.0 / 3)
        REFUSE("key 'cell.iv_coefficient': at %g/V^2 the current falls before %g V; stay below %g",
               a, v, 1 / (3 * v * v));
    if (h->cell.iv == OHM_IV_SINH && a * v > 50)
        REFUSE("key 'cell.iv_coefficient': sinh(%g/V * %g V) leaves no current below full drive; "
               "stay below %g",
               a, v, 50 / v);
    return OHM_OK;
}

static ohm_status check_rows(const char *key, const char *table, const ohm_device_table *loaded)
{
    if (!table[0])
        REFUSE(
            "key '%s': is empty, but the model is 'table'; name a CSV of target, mean, sigma in uS",
            key);
    if (loaded->count < 2)
        REFUSE("key '%s': '%s' is not loaded; set the key through the configuration", key, table);
    return OHM_OK;
}

static ohm_status check_devices(const ohm_hardware *h)
{
    int model = h->programming.model, count = h->programming.coefficients_us.count;
    if (model == OHM_PROGRAM_POLYNOMIAL && count < 1)
        REFUSE("key 'programming.coefficients_us': is empty, but the model is 'polynomial'; list "
               "sigma in uS by powers of G/g_max");
    if (model == OHM_PROGRAM_EXPONENTIAL &&
        (count != 2 || !(h->programming.coefficients_us.at[1] > 0)))
        REFUSE("key 'programming.coefficients_us': exponential takes [A, B] in uS with B > 0, here "
               "are %d numbers",
               count);
    if (model == OHM_PROGRAM_TABLE)
        OHM_TRY(check_rows("programming.table", h->programming.table, &h->programming.rows));
    if (h->read.model == OHM_READ_POLYNOMIAL && h->read.coefficients_us.count < 1)
        REFUSE("key 'read.coefficients_us': is empty, but the model is 'polynomial'; list sigma in "
               "uS by powers of G/g_max");
    if (h->read.model == OHM_READ_TABLE)
        OHM_TRY(check_rows("read.table", h->read.table, &h->read.rows));
    double stuck = h->faults.stuck_off + h->faults.stuck_on + h->faults.stuck_random;
    if (stuck > 1)
        REFUSE("keys 'faults.*': the shares of stuck cells add up to %g; keep them at 1 or below",
               stuck);
    return OHM_OK;
}

static ohm_status check_time(const ohm_hardware *h)
{
    if (h->retention.one_over_f && h->retention.model != OHM_RETENTION_PCM)
        REFUSE("key 'retention.one_over_f': 1/f noise is part of the pcm law; set retention.model "
               "to pcm, or one_over_f to false");
    if (h->retention.compensation != OHM_COMPENSATION_NONE &&
        h->retention.model == OHM_RETENTION_NONE)
        REFUSE("key 'retention.compensation': there is no drift to compensate; set "
               "retention.model, or compensation to none");
    if (h->ir_drop.model == OHM_IR_CLOSED_FORM && h->ir_drop.zero_input == OHM_ZERO_GATED)
        REFUSE("key 'ir_drop.zero_input': cutting rows off makes wires depend on the input, which "
               "the closed form cannot follow; set it to grounded, or ir_drop.model to exact");
    int one_g_eff = h->ir_drop.model == OHM_IR_EXACT && h->ir_drop.zero_input == OHM_ZERO_GROUNDED &&
                    h->cell.iv == OHM_IV_LINEAR;
    if (h->ir_drop.gradient == OHM_IR_GRADIENT_CLOSED_FORM && !one_g_eff)
        REFUSE("key 'ir_drop.gradient': closed_form stands in for the derivative of exact wires with "
               "grounded rows and linear cells; set ir_drop.model, ir_drop.zero_input and cell.iv to "
               "those, or ir_drop.gradient to exact");
    return OHM_OK;
}

/* Whether a conversion sees both signs: a pair's difference, or negative drive. */
static int is_bipolar(const ohm_hardware *h)
{
    return h->input.encoding == OHM_INPUT_SIGN_MAGNITUDE ||
           h->weight.subtract == OHM_SUBTRACT_ANALOG;
}

static ohm_status check_adc(const ohm_hardware *h)
{
    if (h->adc.bits == 1 && is_bipolar(h))
        REFUSE("key 'adc.bits': 1 bit has no code for both signs; give at least 2, or subtract "
               "digitally");
    if (h->adc.bits == 0 &&
        (h->adc.noise_lsb > 0 || h->adc.offset_sigma_lsb > 0 || h->adc.inl_lsb > 0))
        REFUSE("keys 'adc.*_lsb': errors in LSB need a converter; set adc.bits to 1..16, or them "
               "to 0");
    if (h->adc.bits == 0 &&
        (h->adc.gain_sigma > 0 || h->output.s_shape > 0 || h->output.s_shape_sigma > 0))
        REFUSE("keys 'adc.gain_sigma', 'output.s_shape*': errors of a conversion need a converter; "
               "set adc.bits to 1..16, or them to 0");
    int range = h->adc.range.kind;
    if (h->adc.bits > 0 && h->read.model != OHM_READ_NONE && h->read.form == OHM_FORM_PER_CELL &&
        (range == OHM_ADC_DATA || range == OHM_ADC_CALIBRATED || range == OHM_ADC_RUNNING))
        REFUSE("key 'read.form': 'per_cell' measures no currents, which adc.range needs; set "
               "adc.range to max, granular or a number, or read.form to aggregate");
    return OHM_OK;
}

ohm_status ohm_hardware_check(const ohm_hardware *hardware)
{
    OHM_TRY(check_mapping(hardware));
    OHM_TRY(check_devices(hardware));
    OHM_TRY(check_time(hardware));
    return check_adc(hardware);
}
