#!/bin/sh
# Packs the sources of this tree and prebuilt programs for a machine with a GPU and little else:
#
#     profiling/bundle.sh OUT.tar.gz PROGRAM...        (make bundle)
#
# There: unpack and run ./gpu-report. Beside the programs, in prebuilt/lib, lie the shared objects that they load and
# a machine with gcc and CUDA may lack (all but those of glibc and gcc itself), and in prebuilt/include the headers of
# these libraries, so that what does not start can be built there. Programs are linked to look in $ORIGIN/lib first.
set -eu
cd "$(dirname "$0")/.."

fail() {
    echo "bundle.sh: $*" >&2
    exit 1
}

[ $# -ge 2 ] || fail "usage: profiling/bundle.sh OUT.tar.gz PROGRAM..."
out=$1
shift
cc=${CC:-gcc}
most=${MOST_BYTES:-60000000}
git ls-files --error-unmatch Makefile >/dev/null 2>&1 || fail "this is no git checkout; its files cannot be told from others"

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
top=$work/ohmgrad-gpu
mkdir -p "$top/prebuilt/lib" "$top/prebuilt/include/cjson"

git ls-files -z | tar --null -T - -cf - | tar -xf - -C "$top"
git describe --always --dirty --abbrev=12 >"$top/commit.txt"
# shellcheck disable=SC2016
printf '#!/bin/sh\nexec "$(dirname "$0")/profiling/gpu-report.sh" "$@"\n' >"$top/gpu-report"
chmod +x "$top/gpu-report"

for program in "$@"; do
    [ -x "$program" ] || fail "$program: no such program; run make bundle"
    cp "$program" "$top/prebuilt/"
    ldd "$program" >"$work/ldd"
    grep 'not found' "$work/ldd" >&2 && fail "$program: libraries are missing here"
    # name => path (address)
    awk '$2 == "=>" && $3 ~ /^\// { print $1, $3 }' "$work/ldd" >>"$work/libraries"
done
sort -u "$work/libraries" | while read -r name path; do
    case $name in
    libc.so.* | libm.so.* | libdl.so.* | librt.so.* | libpthread.so.* | libmvec.so.* | ld-linux* | libgcc_s.so.* | libgomp.so.*) ;;
    *)
        cp -L "$path" "$top/prebuilt/lib/$name"
        ln -sf "$name" "$top/prebuilt/lib/${name%%.so*}.so" # what a linker looks for
        ;;
    esac
done
for archive in libcheck.a libsubunit.a; do
    path=$($cc -print-file-name=$archive)
    [ ! -f "$path" ] || cp -L "$path" "$top/prebuilt/lib/"
done
# libyaml-0.so.2 is linked as -lyaml
[ ! -e "$top/prebuilt/lib/libyaml-0.so" ] || mv "$top/prebuilt/lib/libyaml-0.so" "$top/prebuilt/lib/libyaml.so"

for header in cblas.h yaml.h cjson/cJSON.h sha256.h check.h; do
    echo "#include <$header>"
done | $cc -M -x c - | tr -s '[:space:]' '\n' | grep -E '/(cblas|openblas_config.*|yaml|cJSON|sha2|sha256|check|check_stdint)\.h$' |
    while read -r path; do
        case $path in
        */cjson/*) cp "$path" "$top/prebuilt/include/cjson/" ;;
        *) cp "$path" "$top/prebuilt/include/" ;;
        esac
    done

mkdir -p "$(dirname "$out")"
tar -C "$work" -czf "$work/bundle" ohmgrad-gpu
bytes=$(wc -c <"$work/bundle")
[ "$bytes" -lt "$most" ] || fail "$bytes bytes; a bundle must be smaller than $most"
mv "$work/bundle" "$out"
echo "bundle.sh: $out, $((bytes / 1000000)) MB; unpack it on a machine with a GPU and run ohmgrad-gpu/gpu-report"
