#!/bin/sh
# Runs the IP artefact of this bundle on the card of this machine. It has the command line of every bundle's program:
#   program BUNDLE [--threads N] [--warmup N] [--repeat N] --outputs DIR --result FILE
# It compiles deploy/runner.cpp against EdgeCortix's libmeratvm_runtime.so, which is the machine's own: in the folder
# that MERA_LIBRARIES names, in /opt/mera/lib, or in the Python package tvm of mera-tvm-full. MERA_DEVICE is the runner's
# --device where it is not the usual one of the card.
# Exit codes as the runner's of other bundles: 2 command line, 3 bundle, 4 the card answers wrong, 5 the machine.
set -u
bundle=$1 && shift
warmup=0 repeat=1 outputs='' result=''
while [ $# -gt 0 ]; do
  case $1 in
    --threads) ;;
    --warmup) warmup=$2 ;;
    --repeat) repeat=$2 ;;
    --outputs) outputs=$2 ;;
    --result) result=$2 ;;
    *) printf 'unknown option %s\n' "$1" >&2; exit 2 ;;
  esac
  shift 2
done
artefact=$bundle/deploy/IP-$(uname -m)
[ -d "$artefact" ] || { printf 'the bundle has no IP artefact for %s\n' "$(uname -m)" >&2; exit 3; }
libraries=${MERA_LIBRARIES:-/opt/mera/lib}
if [ ! -e "$libraries/libmeratvm_runtime.so" ]; then
  libraries=$(python3 -c 'import importlib.util as u; print(u.find_spec("tvm").submodule_search_locations[0])' 2>/dev/null)
fi
[ -e "$libraries/libmeratvm_runtime.so" ] || {
  printf 'libmeratvm_runtime.so is not here; install MERA, or put the library into /opt/mera/lib\n' >&2
  exit 5
}
work=$(mktemp -d) || exit 5
trap 'rm -rf "$work"' EXIT
g++ -std=c++17 -O2 "$bundle/deploy/runner.cpp" -o "$work/runner" -L "$libraries" -lmeratvm_runtime \
  "-Wl,-rpath,$libraries" -Wl,--allow-shlib-undefined || exit 5
"$work/runner" "$artefact" --device "${MERA_DEVICE:-@DEVICE@}" --warmup "$warmup" --repeat "$repeat" \
  --cases @CASES@ --inputs "$bundle/@INPUTS@" --outputs "$outputs" --samples "$work/samples"
code=$?
case $code in
  0) ;;
  1) printf 'the card answers otherwise than the functional model\n' >&2; exit 4 ;;
  2) exit 5 ;;
  *) exit "$code" ;;
esac
{
  printf '%s' @HEAD@
  printf ', "warmup": %s, "latency_ns": [' "$warmup"
  cat "$work/samples"
  printf ']}\n'
} >"$result"
