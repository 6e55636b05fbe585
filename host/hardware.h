/* The description of one simulated chip: what a YAML hardware file says, parsed and checked.
 * Immutable once read. Key names, defaults, bounds and help stand in one table (hardware.c), which
 * is the parser, the error messages and `ohmgrad hardware --help`. Conductances are in µS. */
#ifndef OHM_HOST_HARDWARE_H
#define OHM_HOST_HARDWARE_H

#include <stddef.h>

#include "host/status.h"

enum { OHM_NAME_BYTES = 64, OHM_PATH_BYTES = 1024, OHM_SOURCE_BYTES = 512, OHM_COEFFICIENTS = 8, OHM_TABLE_ROWS = 256 };

/* A choice that may carry a number: "percentile:99.9", "running:0.99", or a bare number. The number
 * may be left out: "calibrated" is calibrated:100, the whole range. */
typedef struct {
    int kind;     /* one of the enums below */
    double value; /* the number after the colon, or the bare number */
} ohm_mode;

typedef struct {
    int count;
    double at[OHM_COEFFICIENTS]; /* ascending powers */
} ohm_coefficients;

/* A measured device: what a cell programmed to (or read at) target_us gives, in the mean and as a
 * standard deviation. Linear between rows, constant beyond the ends. count 0 = no table. */
typedef struct {
    int count;
    double target_us[OHM_TABLE_ROWS]; /* strictly increasing */
    double mean_us[OHM_TABLE_ROWS], sigma_us[OHM_TABLE_ROWS];
} ohm_device_table;

typedef enum { OHM_RANGE_ABSMAX, OHM_RANGE_PERCENTILE, OHM_RANGE_RUNNING, OHM_RANGE_LEARNED, OHM_RANGE_NUMBER } ohm_range_kind;
typedef enum { OHM_X_TENSOR, OHM_X_ROW } ohm_x_granularity;
typedef enum { OHM_W_TENSOR, OHM_W_CHANNEL } ohm_w_granularity;
typedef enum { OHM_INPUT_OFFSET, OHM_INPUT_TWO_PHASE, OHM_INPUT_SIGN_MAGNITUDE, OHM_INPUT_UNSIGNED } ohm_input_encoding;
typedef enum { OHM_CORRECTION_CALIBRATED, OHM_CORRECTION_NOMINAL } ohm_correction;
typedef enum { OHM_WEIGHT_DIFFERENTIAL, OHM_WEIGHT_OFFSET } ohm_weight_encoding;
typedef enum { OHM_SUBTRACT_ANALOG, OHM_SUBTRACT_DIGITAL } ohm_subtract;
typedef enum { OHM_SPLIT_FILL, OHM_SPLIT_EVEN } ohm_split;
typedef enum { OHM_PAIR_SEPARATE, OHM_PAIR_INTERLEAVED } ohm_pair;
typedef enum { OHM_BIAS_DIGITAL, OHM_BIAS_ROWS } ohm_bias;
typedef enum { OHM_IV_LINEAR, OHM_IV_CUBIC, OHM_IV_SINH } ohm_iv;
typedef enum { OHM_PROGRAM_NONE, OHM_PROGRAM_LOGNORMAL, OHM_PROGRAM_GAUSSIAN, OHM_PROGRAM_PROPORTIONAL, OHM_PROGRAM_POLYNOMIAL,
               OHM_PROGRAM_EXPONENTIAL, OHM_PROGRAM_TABLE, OHM_PROGRAM_PCM } ohm_program_model;
typedef enum { OHM_EVERY_STEP, OHM_EVERY_ONCE } ohm_every;
typedef enum { OHM_READ_NONE, OHM_READ_CONSTANT, OHM_READ_PROPORTIONAL, OHM_READ_POLYNOMIAL, OHM_READ_TABLE, OHM_READ_PCM, OHM_READ_LOGARITHMIC } ohm_read_model;
typedef enum { OHM_FORM_AGGREGATE, OHM_FORM_PER_CELL } ohm_read_form;
typedef enum { OHM_RETENTION_NONE, OHM_RETENTION_POWER_LAW, OHM_RETENTION_LOGARITHMIC, OHM_RETENTION_PCM } ohm_retention_model;
typedef enum { OHM_PCM_NANDAKUMAR, OHM_PCM_HERMES } ohm_pcm_law;
typedef enum { OHM_COMPENSATION_NONE, OHM_COMPENSATION_GLOBAL, OHM_COMPENSATION_COLUMN } ohm_compensation;
typedef enum { OHM_IR_NONE, OHM_IR_EXACT, OHM_IR_CLOSED_FORM } ohm_ir_model;
typedef enum { OHM_IR_GRADIENT_EXACT, OHM_IR_GRADIENT_CLOSED_FORM } ohm_ir_gradient;
typedef enum { OHM_ONE_END, OHM_BOTH_ENDS } ohm_ends;
typedef enum { OHM_ZERO_GROUNDED, OHM_ZERO_GATED } ohm_zero_input;
typedef enum { OHM_ADC_MAX, OHM_ADC_GRANULAR, OHM_ADC_DATA, OHM_ADC_CALIBRATED, OHM_ADC_RUNNING, OHM_ADC_NUMBER } ohm_adc_range;
typedef enum { OHM_ADC_PER_LAYER, OHM_ADC_PER_COLUMN } ohm_adc_granularity;
typedef enum { OHM_NORMALS_FAST, OHM_NORMALS_EXACT } ohm_normals_kind;
typedef enum { OHM_MVM_FP32, OHM_MVM_FP16 } ohm_mvm_precision;

typedef struct ohm_hardware {
    char name[OHM_NAME_BYTES];
    char source[OHM_SOURCE_BYTES];    /* where a preset's numbers come from */
    char simulator[OHM_PATH_BYTES];   /* "analog" (built in), a registered name, or a path ending in .so */
    char simulator_options[OHM_PATH_BYTES]; /* handed to a plug-in's create verbatim */
    struct {
        int bits;                     /* codes -(2^(bits-1)-1) .. +(2^(bits-1)-1) */
        ohm_mode x_range;             /* ohm_range_kind; value = percentile, decay or full scale in x units */
        int x_granularity;            /* ohm_x_granularity */
        ohm_mode w_range;
        int w_granularity;
    } quantise;
    struct {
        int encoding, correction;     /* ohm_input_encoding, ohm_correction */
        int dac_bits;
        double v_read_v, noise, inl;  /* V; sigma as share of one DAC step; peak of the cubic INL in DAC steps */
    } input;
    struct { int encoding, cell_bits, subtract; } weight;
    struct { int rows, cols, split, pair; } tile;
    int bias;
    struct { double g_max_us, on_off; int iv; double iv_coefficient; } cell;
    struct {
        int model;
        double sigma, level;
        ohm_coefficients coefficients_us; /* polynomial: ascending powers of G/g_max, µS; exponential: {A, B} */
        double tolerance;             /* write-verify: truncation in sigmas, inf = none */
        char table[OHM_PATH_BYTES];   /* CSV of target, mean, sigma in µS; resolved against the YAML's folder */
        ohm_device_table rows;        /* the table's contents, loaded with the key */
        int every;
    } programming;
    struct { double stuck_off, stuck_on, stuck_random; } faults; /* probabilities */
    struct {
        int model;
        double sigma;
        int form;
        ohm_coefficients coefficients_us;
        char table[OHM_PATH_BYTES];
        ohm_device_table rows;
    } read;
    struct { double kelvin, reference_kelvin, activation_ev, activation_sigma_ev, wire_tcr_per_k, johnson_bandwidth_hz; } temperature;
    struct {
        int model;
        double time_s, t0_s, t_read_s;
        int one_over_f;               /* add PCM's accumulated 1/f noise at time_s */
        double nu, nu_sigma;
        double log_scale, log_slope_us;            /* logarithmic: mean = scale·G - slope·ln t */
        double log_sigma_us, log_sigma_slope_us;   /* and spread = sigma + slope·ln t, µS */
        double floor_us;                           /* lowest conductance after retention, µS */
        int pcm_law;                  /* ohm_pcm_law: whose fit of nu and of the 1/f noise */
        int compensation;
    } retention;
    struct {
        int model;
        double r_wordline_ohm, r_bitline_ohm, r_driver_ohm, r_sense_ohm;
        int drive, sense, zero_input;
        int gradient;                 /* ohm_ir_gradient, of exact wires in mode full */
    } ir_drop;
    struct {
        int bits;                     /* 0 = no conversion */
        ohm_mode range;               /* ohm_adc_range; value = percentile, decay or µA */
        int granularity;
        double noise_lsb, gain_sigma, offset_sigma_lsb, inl_lsb;
    } adc;
    struct { double s_shape, s_shape_sigma; int per_column_scale; } output;
    int normals;                      /* ohm_normals_kind, for the draws made per conversion */
    struct { int precision; } mvm;    /* ohm_mvm_precision of what a read multiplies by */
} ohm_hardware;

#endif
