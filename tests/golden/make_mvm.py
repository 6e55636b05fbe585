#!/usr/bin/env python3
"""Golden outputs of one layer on the chip, from a second implementation in numpy.

    python3 tests/golden/make_mvm.py        writes tests/golden/mvm.safetensors (needs numpy)

Written from the text of the physics (order of operations, formulas) and from the draw layout that the
headers document, not from the C sources. Everything is float64 and one cell or one read at a time in
spirit: no packing, no fused noise-free shortcuts. A case is `settings` for the ideal chip plus operands;
the C test feeds both to the chip and compares y.

Operands are redrawn until nothing lies on an edge: no x/s or w/s within QUANTISE_MARGIN of a rounding
threshold and no analogue value within ADC_MARGIN of a code threshold (in LSB), so that float and double
must return the same codes. Sums of integers that fall on a threshold exactly are kept: they test ties.
"""
import itertools
import json
import math
import os
import statistics
import struct
import sys

import numpy as np

QUANTISE_MARGIN = 2e-5
ADC_MARGIN = 2e-4
CORRECTION_READS = 16  # the chip reads its answer to the offset so often and takes the mean

DEFAULTS = """
quantise.bits=8 quantise.x_range=absmax quantise.x_granularity=tensor quantise.w_range=absmax
quantise.w_granularity=tensor input.encoding=offset input.correction=calibrated input.dac_bits=1
input.v_read_v=0.2 input.noise=0 input.inl=0 weight.encoding=differential weight.cell_bits=2
weight.subtract=analog tile.rows=128 tile.cols=128 tile.split=fill tile.pair=separate bias=digital
cell.g_max_us=25 cell.on_off=100 cell.iv=linear cell.iv_coefficient=0 programming.model=none
programming.sigma=0.05 programming.level=1 programming.tolerance=inf faults.stuck_off=0
faults.stuck_on=0 faults.stuck_random=0 read.model=none read.sigma=0
programming.coefficients_us=[] read.coefficients_us=[] retention.one_over_f=false retention.t_read_s=2.5e-7
temperature.kelvin=300
temperature.reference_kelvin=300 temperature.activation_ev=0 temperature.activation_sigma_ev=0
temperature.wire_tcr_per_k=0 temperature.johnson_bandwidth_hz=0 retention.model=none retention.time_s=0
retention.t0_s=20 retention.nu=0.05 retention.nu_sigma=0 retention.compensation=none
retention.log_scale=1 retention.log_slope_us=0 retention.log_sigma_us=0 retention.log_sigma_slope_us=0
retention.floor_us=0 ir_drop.model=none ir_drop.r_wordline_ohm=1 ir_drop.r_bitline_ohm=1
ir_drop.r_driver_ohm=0 ir_drop.r_sense_ohm=0 ir_drop.drive=one_end ir_drop.sense=one_end adc.bits=0
adc.range=calibrated adc.granularity=layer adc.noise_lsb=0 adc.gain_sigma=0 adc.offset_sigma_lsb=0
adc.inl_lsb=0 output.s_shape=0 output.s_shape_sigma=0 normals=fast
"""
BOLTZMANN_EV = 8.617333262e-5
NORMAL = statistics.NormalDist()


def settings_of(text):
    made = {}
    for source in (DEFAULTS, text):
        for pair in source.split():
            key, value = pair.split("=", 1)
            try:
                value = float(value)
            except ValueError:
                pass
            made[key] = value
    return made


class OnAnEdge(Exception):
    pass


# ---- random words (Salmon et al. 2011) and the two normals ---------------------------------------

SITE = {name: i for i, name in enumerate(
    ["program", "read", "adc_noise", "dac_noise", "drift_nu", "one_over_f", "activation", "fault",
     "adc_gain", "adc_offset", "s_shape", "calibration_read"])}


def philox(counter, key):
    """Philox4x32-10 of counter [..., 4] under key (2 words): uint32 [..., 4]."""
    mask = np.uint64(0xFFFFFFFF)
    c = [counter[..., i].astype(np.uint64) for i in range(4)]
    k = [np.uint64(key[0]), np.uint64(key[1])]
    for _ in range(10):
        p0, p1 = np.uint64(0xD2511F53) * c[0], np.uint64(0xCD9E8D57) * c[2]
        c = [(p1 >> np.uint64(32)) ^ c[1] ^ k[0], p1 & mask, (p0 >> np.uint64(32)) ^ c[3] ^ k[1], p0 & mask]
        k = [(k[0] + np.uint64(0x9E3779B9)) & mask, (k[1] + np.uint64(0xBB67AE85)) & mask]
    return np.stack(c, -1).astype(np.uint32)


class Stream:
    def __init__(self, key, site, where, step=0):
        self.key, self.site, self.where, self.step = key, SITE[site], where, step

    def blocks(self, block):
        block = np.asarray(block, dtype=np.uint64)
        counter = np.zeros(block.shape + (4,), np.uint64)
        counter[..., 0] = block & np.uint64(0xFFFFFFFF)
        counter[..., 1] = np.uint64(self.site) | (block >> np.uint64(32)) << np.uint64(8)
        counter[..., 2], counter[..., 3] = self.where, self.step
        return philox(counter, self.key)

    def uniform(self, element):
        element = np.asarray(element, np.uint64)
        words = self.blocks(element >> np.uint64(2))
        word = np.take_along_axis(words, (element & np.uint64(3)).astype(np.int64)[..., None], -1)[..., 0]
        return (word.astype(np.float64) + 0.5) / 2.0**32

    def exact(self, element):
        """Box-Muller: words (w0, w1) give (cos, sin), words (w2, w3) the next two. The angle's top two
        bits are its quarter turn, the other thirty the place around it (normals_math.h)."""
        element = np.asarray(element, np.uint64)
        pair = element & ~np.uint64(1)
        radius = np.sqrt(-2.0 * np.log(self.uniform(pair)))
        turn = self.uniform(pair + np.uint64(1)) * 4
        angle = np.pi / 2 * np.where(turn % 1 < 0.5, turn, turn - 1)
        return radius * np.where(element & np.uint64(1), np.sin(angle), np.cos(angle))

    def fast(self, sample, element, transforms):
        """Walsh-Hadamard normals: element e of a sample is output e & 127 of its transform e >> 7."""
        sample, element = np.broadcast_arrays(np.asarray(sample), np.asarray(element))
        keys = sample.astype(np.int64) * transforms + (element >> 7)
        table = {}
        for key in np.unique(keys):
            table[int(key)] = self.transform(int(key))
        out = np.array([table[int(k)][int(e) & 127] for k, e in zip(keys.ravel(), element.ravel())])
        return out.reshape(sample.shape)

    def transform(self, number):
        words = self.blocks(number * 8 + np.arange(8, dtype=np.uint64))
        byte = words.astype("<u4").tobytes()
        v = np.array([(3 if b & 128 else 1) * (2 * (b & 63) - 63) for b in byte], np.int64)
        j = np.arange(128)
        hadamard = np.array([[(-1) ** bin(r & c).count("1") for c in j] for r in j], np.int64)
        bit = lambda i: j >> i & 1
        sign = (-1) ** (bit(0) & bit(1) ^ bit(2) & bit(3) ^ bit(4) & bit(5) ^ bit(6) & bit(0))
        return sign * (hadamard @ v) / math.sqrt(128 * 6825)


# ---- quantisation -------------------------------------------------------------------------------


def full_scale(mode, values):
    """Full scale of values [rows, columns], one per row."""
    magnitude = np.sort(np.abs(values), axis=1)
    if isinstance(mode, float):
        return np.full(len(values), mode)
    name, _, percent = mode.partition(":")
    if name == "percentile":  # nearest rank
        rank = max(1, math.ceil(float(percent) / 100 * magnitude.shape[1]))
        return magnitude[:, rank - 1]
    return magnitude[:, -1]  # absmax; the first batch of a running mean


def quantise(values, mode, per_row, bits):
    q = 2 ** (int(bits) - 1) - 1
    groups = values if per_row else values.reshape(1, -1)
    scale = full_scale(mode, groups) / q
    scale[scale == 0] = 1
    scaled = values / scale[:, None]
    edge = np.abs(np.abs(scaled - np.floor(scaled)) - 0.5)
    if np.any((edge < QUANTISE_MARGIN) & (edge > 0)):
        raise OnAnEdge
    return np.clip(np.rint(scaled), -q, q), scale


# ---- the chip -----------------------------------------------------------------------------------


def inl_shape(u):
    """Odd cubic, zero at 0 and +-1, peak 1."""
    return 1.5 * math.sqrt(3) * u * (1 - u * u)


def nodal(g, word, bit):
    """Effective conductances of a tile [R,C] in S by nodal analysis: the current at each bit line's
    terminals per volt at one word line, the others grounded. word, bit: segment, terminal (ohm), ends."""
    rows, cols = g.shape
    admittance = np.zeros((2 * rows * cols, 2 * rows * cols))
    w = lambda r, c: r * cols + c
    b = lambda r, c: rows * cols + r * cols + c

    def connect(i, j, siemens):
        admittance[i, i] += siemens
        if j is not None:
            admittance[j, j] += siemens
            admittance[i, j] -= siemens
            admittance[j, i] -= siemens

    into, out = np.zeros((rows, 2 * rows * cols)), np.zeros((cols, 2 * rows * cols))
    for r, c in itertools.product(range(rows), range(cols)):
        connect(w(r, c), b(r, c), g[r, c])
        if c:
            connect(w(r, c - 1), w(r, c), 1 / word[0])
        if r:
            connect(b(r - 1, c), b(r, c), 1 / bit[0])
    for r in range(rows):
        for c in [0, cols - 1] if word[2] == "both_ends" else [0]:
            into[r, w(r, c)] += 1 / (word[0] + word[1])
            connect(w(r, c), None, 1 / (word[0] + word[1]))
    for c in range(cols):
        for r in [rows - 1, 0] if bit[2] == "both_ends" else [rows - 1]:
            out[c, b(r, c)] += 1 / (bit[0] + bit[1])
            connect(b(r, c), None, 1 / (bit[0] + bit[1]))
    return into @ np.linalg.solve(admittance, out.T)


class Chip:
    def __init__(self, text, key=(1, 0)):
        h = self.h = settings_of(text)
        bits = int(h["quantise.bits"])
        self.key = key
        self.layer = 3
        self.where = self.read_where = self.layer | 1 << 16  # evaluation, ordinary reads
        self.encoding = h["input.encoding"]
        self.b_x = bits if self.encoding == "offset" else bits - 1
        self.differential = h["weight.encoding"] == "differential"
        self.b_w = bits - 1 if self.differential else bits
        self.digital = h["weight.subtract"] == "digital"
        self.offset = 2 ** (bits - 1)
        self.d = min(int(h["input.dac_bits"]), self.b_x)
        self.c = min(int(h["weight.cell_bits"]), self.b_w)
        self.planes = -(-self.b_x // self.d)
        self.slices = -(-self.b_w // self.c)
        self.max_digit, self.max_level = 2**self.d - 1, 2**self.c - 1
        self.pedestal = 0 if math.isinf(h["cell.on_off"]) else self.max_level / (h["cell.on_off"] - 1)
        self.g_step_us = h["cell.g_max_us"] / (self.max_level + self.pedestal)
        self.v_step = h["input.v_read_v"] / self.max_digit
        self.bipolar = not self.digital or self.encoding == "sign_magnitude"

    # -- geometry

    def tiles(self, k):
        rows = int(self.h["tile.rows"])
        count = -(-k // rows)
        if self.h["tile.split"] == "even":
            begin = [-(-k * t // count) for t in range(count + 1)]
        else:
            begin = [min(k, t * rows) for t in range(count + 1)]
        return list(zip(begin[:-1], begin[1:]))

    def column_tiles(self, n):
        """Outputs per tile of physical bit lines; only wires and reference columns make them matter."""
        cols = int(self.h["tile.cols"])
        if self.h["tile.pair"] == "interleaved":
            cols //= 2
        if not self.differential:
            cols -= 1  # the reference column takes a bit line
        return cols

    # -- inputs

    def digits(self, x_q):
        """[(weight of the read, signed digits [M,K])] for every phase and plane, LSB first."""
        reads = []
        if self.encoding == "offset":
            phases = [(1, x_q + self.offset, 1)]
        elif self.encoding == "two_phase":
            phases = [(1, np.maximum(x_q, 0), 1), (-1, np.maximum(-x_q, 0), 1)]
        else:
            phases = [(1, np.abs(x_q), np.sign(x_q))]
        for phase, (sign, code, drive_sign) in enumerate(phases):
            for plane in range(self.planes):
                digit = (code.astype(np.int64) >> (plane * self.d)) & self.max_digit
                reads.append((phase, plane, sign, digit * drive_sign))
        return reads

    def drive(self, digit):
        """What the DAC and the cell's I(V) make of a digit, in digits."""
        h, top = self.h, self.max_digit
        volts = digit + h["input.inl"] * inl_shape(digit / top)
        v, v_read = volts * self.v_step, h["input.v_read_v"]
        a = h["cell.iv_coefficient"]
        if h["cell.iv"] == "cubic":
            v = (v - a * v**3) / (1 - a * v_read**2)
        elif h["cell.iv"] == "sinh" and a > 0:
            v = v_read * np.sinh(a * v) / math.sinh(a * v_read)
        return v / self.v_step

    # -- cells

    def slice_levels(self, code):
        code = code.astype(np.int64)
        return [(code >> (s * self.c)) & self.max_level for s in range(self.slices)]

    def conductances(self, levels, element):
        """Levels [K,N] to what is in the cells (level units, wires not included)."""
        h = self.h
        low, high = self.pedestal, self.pedestal + self.max_level
        target = levels + low
        g = target.astype(float)
        model = h["programming.model"]
        if model != "none":
            z = self.truncate(self.stream("program").exact(element))
            sigma = h["programming.sigma"] * h["programming.level"]
            if model == "lognormal":
                g = g * np.exp(sigma * z)
            else:
                g = g + self.spread(model, target / high, sigma, "programming") * z
            g = np.maximum(g, 0)
        g_programmed = g
        t, t0 = h["retention.time_s"], h["retention.t0_s"]
        if h["retention.model"] in ("power_law", "pcm"):
            nu, nu_sigma = h["retention.nu"], h["retention.nu_sigma"]
            if h["retention.model"] == "pcm":  # Nandakumar et al. 2019, from the target
                log = np.log(np.maximum(target / high, 1e-7))
                nu = np.clip(-0.0155 * log + 0.0244, 0.049, 0.1)
                nu_sigma = np.clip(-0.0125 * log - 0.0059, 0.008, 0.045)
            xi = Stream(self.key, "drift_nu", self.layer).exact(element)  # drift draws use step 0
            g = g * ((t + t0) / t0) ** -np.abs(nu + nu_sigma * xi)
            if h["retention.one_over_f"] == "true":
                q = np.minimum(0.0088 / np.maximum((g_programmed / high) ** 0.65, 1e-3), 0.2)
                grown = math.sqrt(math.log((t + t0 + h["retention.t_read_s"]) / (2 * h["retention.t_read_s"])))
                moment = Stream(self.key, "one_over_f", self.where, int(np.float32(t).view(np.uint32)))
                g = np.maximum(g + g * q * grown * moment.exact(element), 0)
        elif h["retention.model"] == "logarithmic":
            mean = h["retention.log_scale"] * g * self.g_step_us - h["retention.log_slope_us"] * math.log(t)
            g = np.maximum(mean, h["retention.floor_us"]) / self.g_step_us
        inverse = (1 / h["temperature.kelvin"] - 1 / h["temperature.reference_kelvin"]) / BOLTZMANN_EV
        chip = lambda site: Stream(self.key, site, self.layer)
        energy = h["temperature.activation_ev"]
        if h["temperature.activation_sigma_ev"] > 0:
            energy = energy + h["temperature.activation_sigma_ev"] * chip("activation").exact(element)
        g = g * np.exp(-energy * inverse)
        fate, off, on = chip("fault").uniform(2 * element), h["faults.stuck_off"], h["faults.stuck_on"]
        random = low + np.floor(chip("fault").uniform(2 * element + 1) * (self.max_level + 1))
        g = np.where(fate < off + on + h["faults.stuck_random"], random, g)
        return np.where(fate < off, low, np.where(fate < off + on, high, g))

    def spread(self, model, share, sigma, group):
        """Deviation of a cell at `share` of the largest conductance, in level units."""
        high, step = self.pedestal + self.max_level, self.g_step_us
        coefficients = [float(c) for c in str(self.h[group + ".coefficients_us"]).strip("[]").split(",") if c]
        level = self.h["programming.level"] if group == "programming" else 1
        if model in ("gaussian", "constant"):
            return np.full_like(share, sigma * high)
        if model == "none":
            return np.zeros_like(share)
        if model == "proportional":
            return sigma * high * share
        if model == "polynomial":
            return level * np.maximum(sum(c * share**i for i, c in enumerate(coefficients)), 0) / step
        if model == "exponential":
            return level * coefficients[0] * (1 - np.exp(-share * high * step / coefficients[1])) / step
        if group == "read":  # pcm: sigma g_max sqrt(G / g_max)
            return sigma * high * np.sqrt(np.maximum(share, 0))
        return level * (0.26348 + 1.9650 * share - 1.1731 * share**2) * self.h["cell.g_max_us"] / 25 / step

    def truncate(self, z):
        bound = self.h["programming.tolerance"]
        if math.isinf(bound):
            return z
        cut = NORMAL.cdf(-bound)
        return np.vectorize(lambda v: NORMAL.inv_cdf(cut + NORMAL.cdf(v) * (1 - 2 * cut)))(z)

    def line_resistance(self, length, segment, near, far):
        """R[i,j]: voltage at cell i per current at cell j of a line held at one end (or, with far
        not None, at both). One segment lies between the terminal and the first cell."""
        at = near + segment * (np.arange(length) + 1)
        low, high = np.minimum.outer(at, at), np.maximum.outer(at, at)
        if far is None:
            return low
        total = at[-1] + segment + far
        return low * (total - high) / total

    def wires(self, g):
        """Closed form: g / (1 + Lw + Lb) on a full physical tile [R,C], row 0 farthest from the ADC,
        column 0 nearest the driver. Every cell loads its lines, whether its row is used or grounded."""
        h = self.h
        warm = 1 + h["temperature.wire_tcr_per_k"] * (h["temperature.kelvin"] - h["temperature.reference_kelvin"])
        siemens = self.g_step_us * 1e-6
        driver, sense = h["ir_drop.r_driver_ohm"], h["ir_drop.r_sense_ohm"]
        word = self.line_resistance(g.shape[1], h["ir_drop.r_wordline_ohm"] * warm, driver,
                                    driver if h["ir_drop.drive"] == "both_ends" else None)
        bit = self.line_resistance(g.shape[0], h["ir_drop.r_bitline_ohm"] * warm, sense,
                                   sense if h["ir_drop.sense"] == "both_ends" else None)[::-1, ::-1]
        if h["ir_drop.model"] == "exact":
            return nodal(g * siemens, [h["ir_drop.r_wordline_ohm"] * warm, driver, h["ir_drop.drive"]],
                         [h["ir_drop.r_bitline_ohm"] * warm, sense, h["ir_drop.sense"]]) / siemens
        drop_word = g @ word * siemens
        drop_bit = bit @ g * siemens
        return g / (1 + drop_word + drop_bit)

    def with_wires(self, plus, minus, reference):
        """Effective cells of one slice and row tile: arrays [K,N] (minus or reference [K,T] may be None)."""
        if self.h["ir_drop.model"] == "none":
            return plus, minus, reference
        rows, cols = int(self.h["tile.rows"]), int(self.h["tile.cols"])
        per_tile = self.column_tiles(plus.shape[1])
        used, n = plus.shape
        out_plus, out_minus = np.empty_like(plus), None if minus is None else np.empty_like(minus)
        out_ref = None if reference is None else np.empty_like(reference)
        for tile, begin in enumerate(range(0, n, per_tile)):
            end = min(n, begin + per_tile)

            def physical(columns):
                g = np.full((rows, cols), self.pedestal)
                for position, values in columns:
                    g[:used, position] = values
                return self.wires(g)[:used]

            width = end - begin
            if self.h["tile.pair"] == "interleaved":
                g = physical([(2 * i, plus[:, begin + i]) for i in range(width)] +
                             [(2 * i + 1, minus[:, begin + i]) for i in range(width)])
                out_plus[:, begin:end], out_minus[:, begin:end] = g[:, 0:2 * width:2], g[:, 1:2 * width:2]
                continue
            columns = [(i, plus[:, begin + i]) for i in range(width)]
            if reference is not None:
                columns.append((self.reference_position(width), reference[:, tile]))
            g = physical(columns)
            out_plus[:, begin:end] = g[:, :width]
            if reference is not None:
                out_ref[:, tile] = g[:, self.reference_position(width)]
            if minus is not None:
                g = physical([(i, minus[:, begin + i]) for i in range(width)])
                out_minus[:, begin:end] = g[:, :width]
        return out_plus, out_minus, out_ref

    def reference_position(self, width):
        return int(self.h["tile.cols"]) - 1  # the last bit line of a tile

    def program(self, w_q):
        n, k = w_q.shape
        self.n, self.k = n, k
        per_tile = self.column_tiles(n)
        column_tile = np.arange(n) // per_tile
        tiles = -(-n // per_tile)
        signs = 2 if self.differential else 1
        grid = lambda s, sign: ((s * signs + sign) * k + np.arange(k)[:, None]) * n + np.arange(n)
        self.cells = []  # [slice][row tile] = (plus, minus, reference per output)
        if self.differential:
            split = [self.slice_levels(np.maximum(w_q.T, 0)), self.slice_levels(np.maximum(-w_q.T, 0))]
        else:
            split = [self.slice_levels(w_q.T + self.offset)]
            middle = self.slice_levels(np.full((k, tiles), self.offset))
        for s in range(self.slices):
            plus = self.conductances(split[0][s], grid(s, 0))
            minus = self.conductances(split[1][s], grid(s, 1)) if self.differential else None
            ref = None
            if not self.differential:
                element = (self.slices * k * n + (s * k + np.arange(k)[:, None]) * tiles + np.arange(tiles))
                ref = self.conductances(middle[s], element)
            tiled = []
            for a, b in self.tiles(k):
                part = lambda g: None if g is None else g[a:b]
                p, m, r = self.with_wires(part(plus), part(minus), part(ref))
                tiled.append((p, m, r))
            self.cells.append(tiled)
        self.column_tile = column_tile
        self.reference_tiles = tiles

    # -- reading

    def currents(self, x_q):
        """Yields ((phase, plane, slice, array, tile), weight, drive, I [M,N], I_ref [M,T] or None) of
        every conversion, before what is drawn per column."""
        for phase, plane, sign, digit in self.digits(x_q):
            drive = self.drive(digit)
            if self.h["input.noise"] > 0:
                pitch = -(-self.k // 128) * 128
                phases = 2 if self.encoding == "two_phase" else 1
                element = (phase * self.planes + plane) * pitch + np.arange(self.k)
                z = self.normals("dac_noise", np.arange(len(x_q))[:, None], element, phases * self.planes * pitch // 128)
                drive = drive + self.h["input.noise"] * z
            for s in range(self.slices):
                weight = sign * 2.0 ** (plane * self.d + s * self.c)
                for t, (a, b) in enumerate(self.tiles(self.k)):
                    plus, minus, ref = self.cells[s][t]
                    v = drive[:, a:b]
                    at = (phase, plane, s, 0, t)
                    if not self.digital:
                        other = v @ (minus if self.differential else ref[:, self.column_tile])
                        yield at, weight, v, v @ plus - other, None
                    elif self.differential:
                        yield at, weight, v, v @ plus, None
                        yield (phase, plane, s, 1, t), -weight, v, v @ minus, None
                    else:
                        yield at, weight, v, v @ plus, v @ ref

    def top_code(self):
        bits = int(self.h["adc.bits"])
        return 2 ** (bits - 1) - 1 if self.bipolar else 2**bits - 1

    def static_range(self):
        """LSB that needs no data, in digit.level units; None otherwise."""
        mode, top = self.h["adc.range"], self.top_code()
        if isinstance(mode, float):
            return mode / (self.v_step * self.g_step_us) / top
        if mode == "granular":
            return 1.0
        if mode == "max":
            level = self.max_level + (self.pedestal if self.digital else 0)
            rows = max(b - a for a, b in self.tiles(self.k))
            return float(math.ceil(rows * self.max_digit * level / top - 1e-9))
        return None

    def measure(self, batches):
        """LSB [planes][slices][N] from the largest noise-free currents of the batches."""
        lsb = np.zeros((self.planes, self.slices, self.n))
        for x_q in batches:
            for (_, plane, s, _, _), _, _, current, ref in self.currents(x_q):
                peak = np.abs(current).max(0)
                if ref is not None:
                    peak = np.maximum(peak, np.abs(ref).max(0)[self.column_tile])
                lsb[plane, s] = np.maximum(lsb[plane, s], peak)
        if self.h["adc.granularity"] == "layer":
            lsb[:] = lsb.max(2, keepdims=True)
        lsb[lsb == 0] = 1
        return lsb / self.top_code()

    def convert(self, current, lsb, gain=0.0, offset=0.0):
        h, top = self.h, self.top_code()
        value = np.round(current / lsb, 10)  # the pedestal of a pair cancels to nothing, not to 1e-15
        n = h["output.s_shape"]
        if n > 0:
            y = value / top
            value = top * y * (1 + abs(n)) / (1 + np.abs(n * y))
        value = value * (1 + gain) + offset
        value = value + h["adc.inl_lsb"] * inl_shape(np.clip(value / top, -1, 1))
        edge = np.abs(value - np.floor(value) - 0.5)
        inside = (value < top + 1) & (value > -top - 1)
        tie = (edge == 0) & (self.static_range() is not None)
        if np.any((edge < ADC_MARGIN) & ~tie & inside):
            raise OnAnEdge
        return np.clip(np.rint(value), -top if self.bipolar else 0, top) * lsb

    # -- draws of a read, as mvm.h lays them out

    def read_address(self, phase, plane, s, array, t):
        """(first element of a read, transforms per sample)."""
        arrays = 2 if self.differential and self.digital else 1
        tiles = len(self.tiles(self.k))
        per_tile = self.n if self.differential else min(self.n, self.column_tiles(self.n))
        need = self.reference_tiles * (-(-per_tile // 16) * 16) if self.reference_tiles > 1 or not self.differential \
            else -(-self.n // 16) * 16
        if not self.differential:
            need += self.reference_tiles
        pitch = 16
        while pitch < need and pitch < 128:
            pitch *= 2
        if need > 128:
            pitch = -(-need // 128) * 128
        phases = 2 if self.encoding == "two_phase" else 1
        reads = phases * self.planes * self.slices * arrays * tiles
        read = (((phase * self.planes + plane) * self.slices + s) * arrays + array) * tiles + t
        return read * pitch, -(-reads * pitch // 128)

    def normals(self, site, sample, element, transforms):
        stream = Stream(self.key, site, self.read_where)
        if self.h["normals"] == "exact":
            return stream.exact(sample * transforms * 128 + element)
        return stream.fast(sample, element, transforms)

    def noise(self, drive, lsb, address):
        """Read and converter noise of one read as one draw (both gaussian, same quantiser)."""
        h = self.h
        if h["read.model"] == "none" and h["adc.noise_lsb"] == 0 and h["temperature.johnson_bandwidth_hz"] == 0:
            return 0.0
        high = self.pedestal + self.max_level
        _, _, s, array, t = address
        plus, minus, _ = self.cells[s][t]
        seen = [minus if array else plus] if self.digital or not self.differential else [plus, minus]
        variance = sum(drive**2 @ self.spread(h["read.model"], g / high, h["read.sigma"], "read") ** 2 for g in seen)
        if h["temperature.johnson_bandwidth_hz"] > 0:
            quantum = 4 * 1.380649e-23 * h["temperature.kelvin"] * h["temperature.johnson_bandwidth_hz"]
            idle = int(h["tile.rows"]) - drive.shape[1]
            siemens = sum(g.sum(0) + idle * self.pedestal for g in seen) * self.g_step_us * 1e-6
            variance = variance + quantum * siemens / (self.v_step * self.g_step_us * 1e-6) ** 2
        if lsb is not None:
            variance = variance + (h["adc.noise_lsb"] * lsb) ** 2
        first, transforms = self.read_address(*address)
        sample = np.arange(len(drive))[:, None]
        per_tile = self.n if self.reference_tiles == 1 else self.column_tiles(self.n)
        pitch = -(-per_tile // 16) * 16
        packed = self.column_tile * pitch + np.arange(self.n) % per_tile
        made = self.normals("read", sample, first + packed, transforms) * np.sqrt(variance)
        if not self.differential:  # the reference columns are read like any other, then subtracted
            share = self.cells[s][t][2] / high
            variance = drive**2 @ self.spread(h["read.model"], share, h["read.sigma"], "read") ** 2
            element = first + self.reference_tiles * pitch + np.arange(self.reference_tiles)
            reference = self.normals("read", sample, element, transforms) * np.sqrt(variance)
            made = made - reference[:, self.column_tile]
        return made

    def static_errors(self, site, s, array, t):
        """One exact normal per column of a converter; [slices][arrays][tiles][packed columns]."""
        arrays = 2 if self.differential and self.digital else 1
        tiles = len(self.tiles(self.k))
        packed = -(-self.n // 16) * 16
        element = ((s * arrays + array) * tiles + t) * packed + np.arange(self.n)
        return Stream(self.key, site, self.layer).exact(element)

    def sums(self, x_q, lsb):
        total = np.zeros((len(x_q), self.n))
        for at, weight, drive, current, ref in self.currents(x_q):
            _, plane, s, array, t = at
            step = None if lsb is None else lsb[plane, s]
            current = current + self.noise(drive, step, at)
            if lsb is not None:
                gain = self.h["adc.gain_sigma"] * self.static_errors("adc_gain", s, array, t)
                offset = self.h["adc.offset_sigma_lsb"] * self.static_errors("adc_offset", s, array, t)
                current = self.convert(current, step, gain, offset)
                if ref is not None:
                    ref = self.convert(ref, step[np.unique(self.column_tile, return_index=True)[1]])
            total += weight * current
            if ref is not None:
                total -= weight * ref[:, self.column_tile]
        return total

    def infer(self, x_q, w_q):
        """Corrected sums of codes."""
        lsb = None
        middle = np.zeros((CORRECTION_READS, self.k))  # drive 2^(bits-1) on all rows
        calibrated = self.encoding == "offset" and self.h["input.correction"] == "calibrated"
        if self.h["adc.bits"] > 0:
            static = self.static_range()
            if static is None:
                lsb = self.measure([x_q, middle] if calibrated else [x_q])
            else:
                lsb = np.full((self.planes, self.slices, self.n), static)
        alpha = self.compensation(x_q)
        total = alpha * self.sums(x_q, lsb)
        if calibrated:
            self.read_where |= 1 << 17  # draws of its own
            total = total - alpha * self.sums(middle, lsb).mean(0)
        elif self.encoding == "offset":
            total = total - self.offset * w_q.sum(1)
        return total

    def compensation(self, x_q):
        """Drift without spread scales every cell alike: the reference over the drifted mean is that factor."""
        h = self.h
        if h["retention.compensation"] == "none":
            return 1.0
        return ((h["retention.time_s"] + h["retention.t0_s"]) / h["retention.t0_s"]) ** h["retention.nu"]

    def stream(self, site):
        return Stream(self.key, site, self.where)


def layer(text, x, w, b):
    """y [M,N] of a layer through the chip that `text` describes."""
    chip = Chip(text)
    h = chip.h
    x_q, s_x = quantise(x.astype(float), h["quantise.x_range"], h["quantise.x_granularity"] == "row", h["quantise.bits"])
    w_q, s_w = quantise(w.astype(float), h["quantise.w_range"], h["quantise.w_granularity"] == "channel", h["quantise.bits"])
    chip.program(w_q)
    scale = s_x[:, None] * np.broadcast_to(s_w, (len(w),))
    bias = b.astype(float)
    if h["bias"] == "rows":
        bias = np.rint(bias / scale) * scale
    return chip.infer(x_q, w_q) * scale + bias


# ---- cases --------------------------------------------------------------------------------------

REAL, WIDE, POSITIVE, INTEGER, ROWS, ONE = "real", "wide", "positive", "integer", "rows", "one"
SIZES = {REAL: (5, 37, 6), WIDE: (4, 75, 19), POSITIVE: (5, 37, 6), INTEGER: (6, 41, 7), ROWS: (5, 37, 6),
         ONE: (1, 1, 1)}
UNIT = "quantise.x_range=127 quantise.w_range=127 "
SPREAD = " programming.model=lognormal"  # currents that are no integers fall on no threshold
PAIR = "input.dac_bits=8 weight.cell_bits=7 "

TOLERANCE = 2e-6  # of the largest |y|
LOOSER = {  # offset weights and inputs: the sums of float32 currents cancel to a twentieth of themselves
    "lognormal_offset": 2e-5,
}

CASES = [
    # quantisation
    ("quantise_default", REAL, ""),
    ("quantise_row_channel", ROWS, "quantise.x_granularity=row quantise.w_granularity=channel"),
    ("quantise_percentile", REAL, "quantise.x_range=percentile:90 quantise.w_range=percentile:97.5"),
    ("quantise_number", REAL, "quantise.x_range=0.75 quantise.w_range=0.5 quantise.bits=6"),
    ("quantise_running", REAL, "quantise.x_range=running:0.9 quantise.bits=4"),
    ("quantise_two_bits", REAL, "quantise.bits=2"),
    ("quantise_one", ONE, ""),
    # mappings, ideal
    ("integer_offset", INTEGER, UNIT + "weight.encoding=offset weight.cell_bits=3 input.dac_bits=5"),
    ("integer_even_tiles", INTEGER, UNIT + "tile.rows=16 tile.split=even input.encoding=two_phase"),
    ("bias_rows", REAL, "bias=rows"),
    ("unsigned", POSITIVE, "input.encoding=unsigned input.dac_bits=3 weight.cell_bits=4"),
    # the converter
    ("adc_max", WIDE, "adc.bits=6 adc.range=max tile.rows=32"),
    ("adc_max_ties", INTEGER, UNIT + "adc.bits=4 adc.range=max tile.rows=14 tile.split=even weight.cell_bits=1"),
    ("adc_max_single_ended", REAL, "adc.bits=7 adc.range=max weight.subtract=digital input.encoding=two_phase cell.on_off=12"),
    ("adc_max_bipolar_drive", REAL, "adc.bits=7 adc.range=max weight.subtract=digital input.encoding=sign_magnitude cell.on_off=20"),
    ("adc_max_offset_weights", REAL, "adc.bits=7 adc.range=max weight.encoding=offset input.encoding=two_phase input.dac_bits=2"),
    ("adc_max_offset_digital", REAL, "adc.bits=8 adc.range=max weight.encoding=offset weight.subtract=digital input.dac_bits=2 input.encoding=two_phase"),
    ("adc_granular", WIDE, "adc.bits=5 adc.range=granular tile.rows=16 tile.split=even"),
    ("adc_granular_isaac", REAL, "adc.bits=8 adc.range=granular weight.encoding=offset tile.rows=16"),
    ("adc_data", REAL, "adc.bits=5 adc.range=data input.encoding=two_phase input.dac_bits=3" + SPREAD),
    ("adc_data_columns", WIDE, "adc.bits=5 adc.range=data adc.granularity=column tile.rows=40 input.encoding=sign_magnitude" + SPREAD),
    ("adc_data_digital", REAL, "adc.bits=6 adc.range=data weight.subtract=digital input.encoding=two_phase" + SPREAD),
    ("adc_data_offset_inputs", REAL, "adc.bits=6 adc.range=data input.dac_bits=4" + SPREAD),
    ("adc_data_nominal", REAL, "adc.bits=6 adc.range=data input.correction=nominal" + SPREAD),
    ("adc_number", REAL, "adc.bits=6 adc.range=9.5 input.encoding=sign_magnitude " + PAIR),
    ("adc_number_clips", REAL, "adc.bits=8 adc.range=1.25 input.encoding=two_phase"),
    ("adc_calibrated", WIDE, "adc.bits=8 adc.range=calibrated input.encoding=two_phase tile.rows=64" + SPREAD),
    ("adc_running_columns", REAL, "adc.bits=8 adc.range=running:0.9 adc.granularity=column input.encoding=two_phase" + SPREAD),
    ("adc_inl", REAL, "adc.bits=6 adc.range=max input.encoding=two_phase adc.inl_lsb=1.5"),
    ("adc_inl_clips", REAL, "adc.bits=6 adc.range=2 input.encoding=two_phase adc.inl_lsb=0.75"),
    ("s_shape", REAL, "adc.bits=8 adc.range=data input.encoding=two_phase output.s_shape=0.5" + SPREAD),
    # cells
    ("iv_cubic", REAL, "cell.iv=cubic cell.iv_coefficient=4 input.dac_bits=4"),
    ("iv_sinh", REAL, "cell.iv=sinh cell.iv_coefficient=9 input.encoding=sign_magnitude input.dac_bits=7"),
    ("iv_sinh_digital", REAL, "cell.iv=sinh cell.iv_coefficient=9 input.encoding=two_phase input.dac_bits=3 weight.subtract=digital adc.bits=8 adc.range=max cell.on_off=10"),
    ("dac_inl", REAL, "input.inl=0.3 input.encoding=two_phase input.dac_bits=4"),
    ("dac_inl_iv_offset", REAL, "input.inl=0.2 input.dac_bits=8 cell.iv=cubic cell.iv_coefficient=3 input.correction=nominal"),
    ("arrhenius", REAL, "temperature.kelvin=350 temperature.activation_ev=0.1 input.encoding=two_phase"),
    ("drift", REAL, "retention.model=power_law retention.time_s=86400 retention.nu=0.06 input.encoding=two_phase adc.bits=8 adc.range=max"),
    ("drift_offset_inputs", REAL, "retention.model=power_law retention.time_s=3600"),
    ("drift_nominal", REAL, "retention.model=power_law retention.time_s=3600 input.correction=nominal"),
    ("drift_compensated", REAL, "retention.model=power_law retention.time_s=3600 retention.compensation=global adc.bits=8 adc.range=data" + SPREAD),
    ("drift_compensated_columns", REAL, "retention.model=power_law retention.time_s=60 retention.compensation=column input.correction=nominal"),
    ("retention_logarithmic", REAL, "retention.model=logarithmic retention.time_s=100 retention.log_scale=0.9 retention.log_slope_us=0.3 retention.floor_us=2 input.encoding=two_phase"),
    ("stuck_off", REAL, "faults.stuck_off=1 input.encoding=two_phase adc.bits=8 adc.range=max"),
    ("stuck_on", REAL, "faults.stuck_on=1 weight.subtract=digital"),
    # wires
    ("wires", REAL, "ir_drop.model=closed_form tile.rows=48 tile.cols=8 ir_drop.r_wordline_ohm=20 ir_drop.r_bitline_ohm=30 input.encoding=two_phase"),
    ("wires_terminals", REAL, "ir_drop.model=closed_form tile.rows=16 tile.cols=4 ir_drop.r_wordline_ohm=5 ir_drop.r_bitline_ohm=40 ir_drop.r_driver_ohm=200 ir_drop.r_sense_ohm=100 input.encoding=sign_magnitude input.dac_bits=7"),
    ("wires_both_ends", REAL, "ir_drop.model=closed_form tile.rows=37 tile.cols=6 ir_drop.r_wordline_ohm=50 ir_drop.r_bitline_ohm=30 ir_drop.drive=both_ends ir_drop.sense=both_ends ir_drop.r_driver_ohm=60 ir_drop.r_sense_ohm=20 input.encoding=two_phase"),
    ("wires_both_unused", REAL, "ir_drop.model=closed_form tile.rows=48 tile.cols=9 ir_drop.r_wordline_ohm=50 ir_drop.r_bitline_ohm=30 ir_drop.drive=both_ends ir_drop.sense=both_ends input.encoding=two_phase"),
    ("wires_interleaved", REAL, "ir_drop.model=closed_form tile.rows=37 tile.cols=8 tile.pair=interleaved ir_drop.r_wordline_ohm=20 ir_drop.r_bitline_ohm=30 input.encoding=two_phase weight.cell_bits=4"),
    ("wires_offset_weights", REAL, "ir_drop.model=closed_form tile.rows=37 tile.cols=5 weight.encoding=offset ir_drop.r_wordline_ohm=20 ir_drop.r_bitline_ohm=30 input.encoding=two_phase"),
    ("wires_digital_warm", REAL, "ir_drop.model=closed_form tile.rows=37 tile.cols=6 weight.subtract=digital ir_drop.r_wordline_ohm=20 ir_drop.r_bitline_ohm=30 temperature.kelvin=360 temperature.wire_tcr_per_k=0.004 cell.on_off=8"),
    ("exact_wires", REAL, "ir_drop.model=exact tile.rows=48 tile.cols=8 ir_drop.r_wordline_ohm=20 ir_drop.r_bitline_ohm=30 input.encoding=two_phase"),
    ("exact_wires_terminals", REAL, "ir_drop.model=exact tile.rows=16 tile.cols=4 ir_drop.r_wordline_ohm=5 ir_drop.r_bitline_ohm=40 ir_drop.r_driver_ohm=200 ir_drop.r_sense_ohm=100 input.encoding=sign_magnitude input.dac_bits=7"),
    ("exact_wires_both_ends", REAL, "ir_drop.model=exact tile.rows=37 tile.cols=6 ir_drop.r_wordline_ohm=50 ir_drop.r_bitline_ohm=30 ir_drop.drive=both_ends ir_drop.sense=both_ends ir_drop.r_driver_ohm=60 ir_drop.r_sense_ohm=20 input.encoding=two_phase"),
    ("exact_wires_interleaved", REAL, "ir_drop.model=exact tile.rows=37 tile.cols=8 tile.pair=interleaved ir_drop.r_wordline_ohm=200 ir_drop.r_bitline_ohm=300 input.encoding=two_phase weight.cell_bits=4 cell.on_off=5"),
    ("exact_wires_offset_adc", REAL, "ir_drop.model=exact tile.rows=37 tile.cols=5 weight.encoding=offset ir_drop.r_wordline_ohm=20 ir_drop.r_bitline_ohm=30 input.encoding=two_phase adc.bits=8 adc.range=max temperature.kelvin=360 temperature.wire_tcr_per_k=0.004"),
    # drawn
    ("lognormal", REAL, "programming.model=lognormal programming.level=2 input.encoding=two_phase"),
    ("lognormal_offset", WIDE, "programming.model=lognormal programming.sigma=0.1 weight.encoding=offset tile.cols=8"),
    ("gaussian_adc", WIDE, "programming.model=gaussian adc.bits=7 adc.range=max tile.rows=32 input.encoding=sign_magnitude input.dac_bits=2"),
    ("proportional_digital", REAL, "programming.model=proportional weight.subtract=digital programming.sigma=0.2 input.encoding=two_phase"),
    ("polynomial", REAL, "programming.model=polynomial programming.coefficients_us=[0.4,1.5,-0.8] programming.level=1.5 input.encoding=two_phase"),
    ("exponential", REAL, "programming.model=exponential programming.coefficients_us=[2.5,9] weight.encoding=offset input.encoding=two_phase"),
    ("write_verify", REAL, "programming.model=gaussian programming.sigma=0.1 programming.tolerance=0.8 input.encoding=two_phase"),
    ("pcm_day", REAL, "programming.model=pcm retention.model=pcm retention.one_over_f=true retention.time_s=86400 input.encoding=two_phase cell.on_off=inf"),
    ("pcm_month_on_off", WIDE, "programming.model=pcm retention.model=pcm retention.one_over_f=true retention.time_s=2592000 input.encoding=two_phase weight.cell_bits=4"),
    ("drift_spread", REAL, "programming.model=lognormal retention.model=power_law retention.nu_sigma=0.03 retention.time_s=5000 input.encoding=two_phase"),
    ("activation_spread", REAL, "temperature.kelvin=340 temperature.activation_ev=0.05 temperature.activation_sigma_ev=0.03 input.encoding=two_phase"),
    ("stuck_some", WIDE, "faults.stuck_off=0.1 faults.stuck_on=0.05 faults.stuck_random=0.2 programming.model=lognormal input.encoding=two_phase"),
    ("read_proportional", REAL, "read.model=proportional read.sigma=0.05 input.encoding=two_phase cell.on_off=9"),
    ("read_polynomial", REAL, "read.model=polynomial read.coefficients_us=[0.2,1.4,-0.7] input.encoding=two_phase weight.subtract=digital"),
    ("read_pcm", REAL, "read.model=pcm read.sigma=0.0175 input.encoding=two_phase programming.model=pcm"),
    ("johnson", REAL, "temperature.johnson_bandwidth_hz=1e11 input.encoding=two_phase tile.rows=37"),
    ("johnson_unused_rows", REAL, "temperature.johnson_bandwidth_hz=1e11 input.encoding=two_phase cell.on_off=5"),
    ("read_constant", WIDE, "read.model=constant read.sigma=0.02 input.encoding=two_phase tile.rows=32"),
    ("read_constant_exact", REAL, "read.model=constant read.sigma=0.02 input.encoding=two_phase normals=exact"),
    ("read_digital_adc", REAL, "read.model=constant read.sigma=0.02 adc.bits=7 adc.range=max adc.noise_lsb=0.7 weight.subtract=digital input.encoding=two_phase"),
    ("read_nominal_adc", WIDE, "read.model=constant read.sigma=0.01 adc.bits=8 adc.range=max adc.noise_lsb=0.5 input.correction=nominal input.dac_bits=4"),
    ("read_offset_weights", WIDE, "read.model=constant read.sigma=0.02 input.encoding=two_phase weight.encoding=offset tile.cols=8 tile.rows=32"),
    ("read_offset_weights_adc", REAL, "read.model=proportional read.sigma=0.1 programming.model=lognormal input.encoding=sign_magnitude weight.encoding=offset adc.bits=8 adc.range=max adc.noise_lsb=0.4"),
    ("read_calibrated", REAL, "read.model=constant read.sigma=0.03 input.noise=0.05 input.dac_bits=2"),
    ("read_calibrated_rasch", WIDE, "read.model=pcm read.sigma=0.0175 adc.bits=8 adc.range=9 adc.noise_lsb=0.5 input.encoding=sign_magnitude input.dac_bits=8 weight.cell_bits=7 programming.model=pcm cell.on_off=inf tile.rows=64"),
    ("adc_data_one_read", REAL, "adc.bits=6 adc.range=data input.encoding=sign_magnitude input.dac_bits=8 weight.cell_bits=7" + SPREAD),
    ("dac_noise", WIDE, "input.noise=0.1 input.encoding=two_phase input.dac_bits=4"),
    ("dac_noise_nominal", REAL, "input.noise=0.1 input.correction=nominal"),
    ("adc_errors", WIDE, "adc.bits=8 adc.range=max adc.gain_sigma=0.02 adc.offset_sigma_lsb=0.6 tile.rows=32 input.encoding=two_phase"),
]


def operands(kind, rng):
    m, k, n = SIZES[kind]
    if kind == INTEGER:
        x, w = rng.integers(-127, 128, (m, k)), rng.integers(-127, 128, (n, k))
        b = rng.integers(-5000, 5000, n)
    else:
        x, w, b = rng.normal(size=(m, k)), rng.normal(size=(n, k)) / 4, rng.normal(size=n)
        if kind == POSITIVE:
            x = np.abs(x)
        if kind == ROWS:
            x *= 4.0 ** np.arange(m)[:, None]
            w *= 3.0 ** -np.arange(n)[:, None]
            x[2], w[1] = 0, 0  # an all-zero row or channel has scale 1
    return [a.astype(np.float32) for a in (x, w, b)]


def golden(name, kind, text):
    for attempt in itertools.count():
        rng = np.random.default_rng([attempt, *name.encode()])
        x, w, b = operands(kind, rng)
        try:
            return {"x": x, "w": w, "b": b, "y": layer(text, x, w, b).astype(np.float32)}
        except OnAnEdge:
            if attempt == 2000:
                sys.exit(f"{name}: every draw of operands lies on an edge")


def write_safetensors(path, tensors, metadata):
    header, data = {"__metadata__": metadata}, b""
    for name, array in tensors.items():
        raw = array.astype("<f4").tobytes()
        header[name] = {"dtype": "F32", "shape": list(array.shape), "data_offsets": [len(data), len(data) + len(raw)]}
        data += raw
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text + data)


def main():
    vectors = philox(np.array([[0] * 4, [0xFFFFFFFF] * 4]), (0, 0))
    assert [hex(v) for v in vectors[0]] == ["0x6627e8d5", "0xe169c58d", "0xbc57ac4c", "0x9b00dbd8"]
    tensors, metadata = {}, {}
    for name, kind, text in CASES:
        if len(sys.argv) > 1 and name not in sys.argv[1:]:
            continue
        metadata[name] = text
        metadata[f"{name}/tolerance"] = str(LOOSER.get(name, TOLERANCE))
        for part, array in golden(name, kind, text).items():
            tensors[f"{name}/{part}"] = array
        print(name, flush=True)
    path = os.path.join(os.path.dirname(os.path.abspath(__file__)), "mvm.safetensors")
    write_safetensors(path, tensors, metadata)


if __name__ == "__main__":
    main()
