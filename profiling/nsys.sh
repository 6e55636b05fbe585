#!/bin/sh
# One training step under Nsight Systems: the timeline, and how long each range took.
#
#     profiling/nsys.sh CONFIG.yaml [MODE [BATCH [OUT]]]
#
# Writes OUT.nsys-rep (nsys-ui opens it) and prints the summary by NVTX range. MODE: nograd, BATCH: that of
# the file, OUT: runs/nsys. PROGRAM names another ohmgrad than build/ohmgrad.
set -eu

fail() {
    echo "nsys.sh: $*" >&2
    exit 1
}

case $# in
1 | 2 | 3 | 4) ;;
*) fail "usage: profiling/nsys.sh CONFIG.yaml [MODE [BATCH [OUT]]]" ;;
esac
program=${PROGRAM:-$(dirname "$0")/../build/ohmgrad}
mode=${2:-nograd}
out=${4:-runs/nsys}

[ -f "$1" ] || fail "$1: no such file; name an experiment, such as models/cifar_resnet20.yaml"
case $mode in
baseline | full | full:save | detach | nograd) ;;
*) fail "'$mode' is no mode; give baseline, full, full:save, detach or nograd" ;;
esac
command -v nsys >/dev/null 2>&1 || fail "nsys is not installed; it comes with the CUDA toolkit, or as nsight-systems-cli"
[ -x "$program" ] || fail "$program: no such program; run make first"
mkdir -p "$(dirname "$out")" || fail "$(dirname "$out"): cannot make the folder"

set -- "$1" "${3:-}"
# Of the steps that `profile` takes, one is called "timed step": it alone is captured, and not the first,
# which still touches its memory. Names are plain strings, which nsys must be told to accept.
export NSYS_NVTX_PROFILER_REGISTER_ONLY=0
nsys profile --capture-range=nvtx --nvtx-capture="timed step@ohmgrad" --capture-range-end=stop \
    --trace=cuda,nvtx,osrt,cublas --sample=none --cpuctxsw=none --force-overwrite=true --output="$out" \
    "$program" profile "$1" --modes "$mode" ${2:+--batch "$2"} --set train.record=false --steps 1 --json "$out.json" ||
    fail "nsys ended with an error; its lines stand above"
nsys stats --force-export=true --report nvtx_sum --report nvtx_gpu_proj_sum --report cuda_gpu_kern_sum "$out.nsys-rep" ||
    fail "$out.nsys-rep: nsys cannot summarise it"
echo "nsys.sh: the timeline is $out.nsys-rep; open it with nsys-ui"
