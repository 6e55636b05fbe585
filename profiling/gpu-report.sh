#!/bin/sh
# What there is to know of this code on this GPU, in under ten minutes and without a network:
#
#     profiling/gpu-report.sh [OUT]
#
# builds, runs the kernels' tests on the device, measures, trains on both devices and compares, and runs the quick
# tests under compute-sanitizer. A step that fails is recorded, the rest goes on. Writes OUT, by default
# profiling/results/DATE-DEVICE: report.md, JSON lines, a log per step. Ends with 0 where everything passed and every
# target was met, 1 where not, 77 where there is no GPU (nothing is written then).
#
# BIN: folder of binaries to run instead of what this builds. A bundle (make bundle) brings its own, prebuilt/; where
# they do not start they are built anew. SECONDS_IN_ALL: the limit, 570. What a step leaves of its share the later ones
# may take; one that reaches its limit is recorded as cut.
set -u
cd "$(dirname "$0")/.." || exit 1
root=$PWD

say() { echo "gpu-report: $*"; }
now() { date +%s; }

[ $# -le 1 ] || {
    say "usage: profiling/gpu-report.sh [OUT]" >&2
    exit 2
}
requested=${1:-}
smi=$(nvidia-smi --query-gpu=name,driver_version,memory.total --format=csv,noheader 2>/dev/null | head -n 1)
if [ -z "$smi" ] && [ ! -e /dev/nvidiactl ]; then
    say "no NVIDIA GPU here (nvidia-smi names none); nothing was run" >&2
    exit 77
fi

PATH=$PATH:/usr/local/cuda/bin
began=$(now)
limit=${SECONDS_IN_ALL:-570}
work=$(mktemp -d) || exit 1
trap 'rm -rf "$work"' EXIT
passed=0 failed=0 skipped=0 cut=0
commit=$(cat commit.txt 2>/dev/null || git describe --always --dirty --abbrev=12 2>/dev/null || echo unknown)

# What a log or a name says, fit for a line of JSON and a cell of a table.
plain() { tr '\n\t' '  ' | tr -d '\000-\037"\\|' | cut -c 1-200 | sed 's/ *$//'; }

record() { # step, result, seconds, remark
    case $2 in
    passed) passed=$((passed + 1)) ;;
    failed) failed=$((failed + 1)) ;;
    cut) cut=$((cut + 1)) ;;
    *) skipped=$((skipped + 1)) ;;
    esac
    printf '{"step": "%s", "result": "%s", "seconds": %d, "remark": "%s"}\n' "$1" "$2" "$3" "$4" >>"$work/steps.jsonl"
    printf '| %s | %s | %d | %s |\n' "$1" "$2" "$3" "$4" >>"$work/steps.md"
    say "$1: $2${4:+, $4}"
}

# Shares of the steps, in seconds: what each has even where all before it were cut. With the longest build they are
# the limit. `reserved` is what the steps to come have.
sanitizer=$(command -v compute-sanitizer 2>/dev/null)
build_most=240
tests_share=80 bench_share=60 modes_share=60 train_share=15 compare_share=4 sanitizer_share=14
grace=2 # of it, from the signal that ends a step to the one that none survives
reserved=$((tests_share + bench_share + modes_share + 4 * train_share + 2 * compare_share))
[ -z "$sanitizer" ] || reserved=$((reserved + 4 * sanitizer_share))

# step NAME MOST SHARE COMMAND...: output to NAME.log, whose last line is the remark.
step() {
    name=$1
    most=$2
    reserved=$((reserved - $3))
    left=$((began + limit - $(now)))
    allowed=$((left - reserved - grace))
    [ "$allowed" -ge $(($3 - grace)) ] || allowed=$(($3 - grace))
    [ "$allowed" -le "$most" ] || allowed=$most
    [ "$allowed" -le "$left" ] || allowed=$left
    shift 3
    if [ "$allowed" -lt 1 ]; then
        record "$name" failed 0 "no time was left of $limit s"
        return 1
    fi
    start=$(now)
    timeout -k $grace "$allowed" "$@" >"$work/$name.log" 2>&1 </dev/null
    status=$?
    took=$(($(now) - start))
    last=$(grep -v '^{' "$work/$name.log" | tail -n 1 | plain)
    case $status in
    0) record "$name" passed "$took" "$last" ;;
    124 | 137)
        if [ "$took" -ge "$allowed" ]; then
            record "$name" cut "$took" "by its limit of $allowed s"
        else
            record "$name" failed "$took" "exit status $status after $took s: $last"
        fi
        ;;
    *) record "$name" failed "$took" "exit status $status: $last" ;;
    esac
    return $status
}

# ---- binaries --------------------------------------------------------------------------------

starts() { # folder
    for program in tests-cuda bench_cuda bench_modes ohmgrad; do
        [ -x "$1/$program" ] || return 1
    done
    "$1/tests-cuda" --gtest_list_tests >/dev/null 2>&1 && "$1/ohmgrad" --help >/dev/null 2>&1 &&
        "$1/bench_cuda" --device >/dev/null 2>&1 || return 1
    # cuBLAS of the CUDA that it was built with: another one needs another build.
    "$1/ohmgrad" train models/digits_mlp.yaml --device cuda --out "$work/start" --set hardware=none \
        --set train.mode=baseline --set train.steps=1 >"$work/start.log" 2>&1 || ! grep -q cublasLt "$work/start.log"
}

bin=${BIN:-}
if [ -z "$bin" ] && starts prebuilt; then
    bin=prebuilt
fi
if [ -z "$bin" ]; then
    bin=build
    unset MAKEFLAGS MAKELEVEL MFLAGS
    set -- make "-j$(nproc)" build/tests-cuda build/bench_cuda build/bench_modes build/ohmgrad
    if [ -d prebuilt/lib ]; then # headers and libraries that this machine may lack
        set -- "$@" "CFLAGS=-I$root/prebuilt/include" \
            "LDFLAGS=-L$root/prebuilt/lib -Wl,-rpath,$root/prebuilt/lib -Wl,--disable-new-dtags"
    fi
    step build $build_most 0 "$@"
else
    record build passed 0 "prebuilt in $bin"
fi

device=$("$bin/bench_cuda" --device 2>"$work/device.log")
if [ $? -eq 77 ]; then
    say "CUDA finds no device: $(plain <"$work/device.log")" >&2
    exit 77
fi
device=$(printf '%s' "${device:-${smi:-unknown GPU}}" | plain)
slug=$(printf '%s' "${device%%,*}" | tr -cs '[:alnum:]' '-' | tr '[:upper:]' '[:lower:]' | sed 's/^-*//; s/-*$//')
out=${requested:-profiling/results/$(date -u +%Y-%m-%d)-${slug:-gpu}}
mkdir -p "$out" || exit 1

# ---- steps -----------------------------------------------------------------------------------

# Tests that all skipped have shown nothing.
ran_tests() { # name: a passed step whose closing line counts no check becomes a failed one
    grep -Eq '^100%: Checks: [1-9]' "$work/$1.log"
}
tests() { # as step
    before=$passed
    step "$@"
    if [ "$passed" -gt "$before" ] && ! ran_tests "$1"; then
        passed=$before
        sed -i '$d' "$work/steps.jsonl" "$work/steps.md"
        record "$1" failed "$took" "no test ran on the device"
    fi
}

tests device-tests 150 $tests_share "$bin/tests-cuda" --tier=slow '--gtest_filter=*_cuda.*'

step benchmarks 120 $bench_share "$bin/bench_cuda"
grep '^{' "$work/benchmarks.log" >"$work/bench.jsonl" 2>/dev/null

# Table III: all gradient modes of ResNet-18 at batch 512, VGG-11 at 256 and ResNet-20 at 512, Rasch preset.
step gradient-modes 150 $modes_share "$bin/bench_modes" --device cuda
grep '^{' "$work/gradient-modes.log" >>"$work/bench.jsonl" 2>/dev/null

# The same 200 steps on both devices, without a chip and on one: float rounding apart they are one run. Bands of the
# mean loss of every 10 steps and of the test accuracies: 2 % and a point; on a chip, whose converters turn a float
# step into a whole code now and then, 5 % and two points.
for on in cpu cuda; do
    step "train-$on" 60 $train_share "$bin/ohmgrad" train models/digits_mlp.yaml --device $on --out "$work/$on" --set hardware=none \
        --set train.mode=baseline --set train.steps=200 --set train.log_every=10
    step "train-chip-$on" 60 $train_share "$bin/ohmgrad" train models/digits_mlp.yaml --device $on --out "$work/chip-$on" \
        --set hardware.mvm.precision=fp16 --set train.steps=200 --set train.log_every=10
done
cat >"$work/compare" <<'SH'
[ -s "$1" ] && [ -s "$2" ] || { echo "a run left no metrics"; exit 1; }
awk -v loss_band="$3" -v band="$4" '
    function field(name) {
        if (!match($0, "\"" name "\": [-+.0-9e]+")) return ""
        return substr($0, RSTART + length(name) + 4, RLENGTH - length(name) - 4)
    }
    { file = FNR == NR; step = field("step"); loss = field("loss"); accuracy = field("clean_accuracy"); chips = field("noisy_accuracy") }
    loss != "" { if (file) { first[step] = loss; n++ } else { second[step] = loss; m++ } }
    accuracy != "" { if (file) a = accuracy; else b = accuracy }
    chips != "" { if (file) c = chips; else d = chips }
    END {
        for (step in first) {
            if (!(step in second)) { print "step " step " is missing in the second run"; exit 1 }
            off = (second[step] - first[step]) / first[step]; if (off < 0) off = -off
            if (off > worst) worst = off
        }
        if (!n || n != m || a == "" || b == "") { print "the runs are not of one length"; exit 1 }
        if ((c == "") != (d == "")) { print "one of the runs was not evaluated on chips"; exit 1 }
        gap = a > b ? a - b : b - a
        on_chips = c > d ? c - d : d - c
        printf "%d losses, worst off by %.3g %% (band %g %%); accuracy %.4f and %.4f", n, 100 * worst, 100 * loss_band, a, b
        if (c != "") printf ", on chips %.4f and %.4f", c, d
        printf " (band %g)\n", band
        exit !(worst <= loss_band && gap <= band && on_chips <= band)
    }' "$1" "$2"
SH
step train-compared 20 $compare_share sh "$work/compare" "$work/cpu/metrics.jsonl" "$work/cuda/metrics.jsonl" 0.02 0.01
step train-chip-compared 20 $compare_share sh "$work/compare" "$work/chip-cpu/metrics.jsonl" "$work/chip-cuda/metrics.jsonl" 0.05 0.02

for tool in memcheck racecheck initcheck synccheck; do
    if [ -z "$sanitizer" ]; then
        record "$tool" skipped 0 "compute-sanitizer is not installed"
        continue
    fi
    # One process: a context per test would take minutes. Calls that tests want refused are no errors.
    extra=
    [ $tool = memcheck ] && extra="--report-api-errors=no"
    # shellcheck disable=SC2086
    tests $tool 75 $sanitizer_share env CK_FORK=no "$sanitizer" --tool $tool --error-exitcode 9 $extra "$bin/tests-cuda" --tier=quick \
        '--gtest_filter=*_cuda.*'
done

# ---- report ----------------------------------------------------------------------------------

met=$(grep -c '"met": true' "$work/bench.jsonl")
missed=$(grep -c '"met": false' "$work/bench.jsonl")
nvcc_version=$(${NVCC:-nvcc} --version 2>/dev/null | tail -n 1 | plain)
{
    printf '{"commit": "%s", "device": "%s", "nvidia_smi": "%s", "nvcc": "%s", "date": "%s"}\n' "$commit" "$device" \
        "$(printf '%s' "$smi" | plain)" "$nvcc_version" "$(date -u +%Y-%m-%dT%H:%M:%SZ)"
    cat "$work/steps.jsonl"
} >"$out/steps.jsonl"
cp "$work/bench.jsonl" "$out/bench.jsonl"
for log in "$work"/*.log; do
    head -c 300000 "$log" >"$out/$(basename "$log")"
done
for on in cpu cuda chip-cpu chip-cuda; do
    [ ! -s "$work/$on/metrics.jsonl" ] || cp "$work/$on/metrics.jsonl" "$out/train-$on.jsonl"
done
{
    echo "# $device"
    echo
    echo "Commit $commit, $(date -u '+%Y-%m-%d %H:%M') UTC, $(($(now) - began)) s. nvidia-smi (name, driver, memory):" \
        "${smi:-not found}. ${nvcc_version:-No nvcc.}"
    echo
    echo "$passed steps passed, $skipped skipped, $cut cut by their limits, $failed failed; $met targets met, $missed missed."
    echo
    echo "| step | result | seconds | remark |"
    echo "| --- | --- | --- | --- |"
    cat "$work/steps.md"
    echo
    echo "Training steps by gradient mode, on random images; all threads of the host:"
    echo
    sed -n '/^{/d; /^bench_modes: /d; s/^./    &/p' "$work/gradient-modes.log"
    echo
    echo "Context, from Table III of Feng et al. 2025 (their network and card; baseline, full, detach, no_grad): 0.136," \
        "1.172, 0.616, 0.608 s and 1501, 4019, 3124, 2496 MB."
    echo
    echo "Medians, of kernels by events, of steps by the host's clock; spread: distance of the quartiles over the median."
    echo
    echo "| what | shape | value | spread | share | of | target | |"
    echo "| --- | --- | --- | --- | --- | --- | --- | --- |"
    awk '
        function field(name,    text) {
            if (!match($0, "\"" name "\": (\"[^\"]*\"|[^,}]*)")) return ""
            text = substr($0, RSTART + length(name) + 4, RLENGTH - length(name) - 4)
            gsub(/"/, "", text)
            return text
        }
        {
            met = field("met")
            print "| " (field("bench") == "modes" ? "step, mode " : "") field("what") " | " field("shape") " | " field("value") " " field("unit") " | " field("spread") \
                " | " field("ratio") " | " field("baseline") " | " field("target") " | " \
                (met == "true" ? "met" : met == "false" ? "**missed**" : "") " |"
        }' "$work/bench.jsonl"
} >"$out/report.md"
say "$passed passed, $skipped skipped, $cut cut, $failed failed; targets: $met met, $missed missed; see $out/report.md"
[ "$failed" -eq 0 ] && [ "$cut" -eq 0 ] && [ "$missed" -eq 0 ]
