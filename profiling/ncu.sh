#!/bin/sh
# One kernel under Nsight Compute: its roofline, and what its warps wait for.
#
#     profiling/ncu.sh KERNEL [CONFIG.yaml [OUT]]
#
# KERNEL is a name from kernels/*_cuda.cu; without it, or with one that is not there, the names are listed.
# Three launches of a nograd step of CONFIG.yaml (models/cifar_resnet20.yaml) are measured. Writes
# OUT.ncu-rep (ncu-ui opens it) and prints it. OUT: runs/ncu-KERNEL. PROGRAM: another ohmgrad than build/ohmgrad.
set -eu

fail() {
    echo "ncu.sh: $*" >&2
    exit 1
}

root=$(dirname "$0")/..
program=${PROGRAM:-$root/build/ohmgrad}
config=${2:-$root/models/cifar_resnet20.yaml}

kernels() {
    bounds='(__launch_bounds__ *\([^)]*\) *)?'
    cat "$root"/kernels/*_cuda.cu | tr '\n' ' ' |
        grep -oE "__global__ +${bounds}void +${bounds}[A-Za-z_][A-Za-z0-9_]*" | sed 's/.* //' | sort -u |
        tr '\n' ' '
}

case $# in
1 | 2 | 3) ;;
*) fail "usage: profiling/ncu.sh KERNEL [CONFIG.yaml [OUT]]; kernels: $(kernels)" ;;
esac
case " $(kernels) " in
*" $1 "*) ;;
*) fail "no kernel '$1'; there are: $(kernels)" ;;
esac
out=${3:-runs/ncu-$1}
[ -f "$config" ] || fail "$config: no such file"
command -v ncu >/dev/null 2>&1 || fail "ncu is not installed; it comes with the CUDA toolkit, or as nsight-compute"
[ -x "$program" ] || fail "$program: no such program; run make first"
mkdir -p "$(dirname "$out")" || fail "$(dirname "$out"): cannot make the folder"

# The first launches warm caches and clocks; WarpStateStats and SourceCounters are the stalls.
ncu --kernel-name "regex:^$1\$" --launch-skip 3 --launch-count 3 --section SpeedOfLight --section SpeedOfLight_RooflineChart \
    --section SpeedOfLight_HierarchicalSingleRooflineChart --section WarpStateStats --section SourceCounters \
    --section Occupancy --force-overwrite --export "$out" \
    "$program" profile "$config" --modes nograd --steps 1 --json "$out.json" ||
    fail "ncu ended with an error; its lines stand above (ERR_NVGPUCTRPERM: counters need root or a driver setting)"
ncu --import "$out.ncu-rep" --page details || fail "$out.ncu-rep: ncu cannot print it"
echo "ncu.sh: the report is $out.ncu-rep; open it with ncu-ui"
