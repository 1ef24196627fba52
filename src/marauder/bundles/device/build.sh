#!/bin/sh
# Builds this bundle's engine on this very board and tests it. An engine fits only the board it was built on.
#   ./build.sh                       the fastest precision whose answers are right: int8, fp16, fp32 in turn
#   ./build.sh --precision fp16      begin with this one
#   ./build.sh --desk                no board at hand: test the graphs with ONNX Runtime
#   ./build.sh --rollback            take the engine and the verdict of before
# TRTEXEC=PATH names another trtexec, PYTHON=PATH another python3, WORKSPACE_MB the memory for building.
set -eu
cd "$(dirname "$0")"
PYTHON=${PYTHON:-python3}
from=""
desk=""
while [ $# -gt 0 ]; do
    case "$1" in
    --precision) from=${2:?--precision needs int8, fp16 or fp32}; shift 2 ;;
    --desk) desk=yes; shift ;;
    --rollback)
        [ -f verdict.before.json ] || { echo "there is nothing to go back to" >&2; exit 1; }
        for kept in engine_*.plan.before; do
            if [ -f "$kept" ]; then mv "$kept" "${kept%.before}"; fi
        done
        mv verdict.before.json verdict.json
        echo "back to the engine of before"
        exit 0
        ;;
    *) echo "unknown: $1; see the first lines of this file" >&2; exit 2 ;;
    esac
done

sha256sum --check --quiet checksums.sha256 || { echo "files of the bundle are damaged: copy it again" >&2; exit 1; }

precisions=$("$PYTHON" -c 'import json; print(" ".join(json.load(open("bundle.json"))["precisions"]))')
if [ -n "$from" ]; then
    case " $precisions " in
    *" $from "*) precisions="$from${precisions#*"$from"}" ;;
    *) echo "this bundle has $precisions, and no $from" >&2; exit 2 ;;
    esac
fi

if [ -n "$desk" ]; then
    engines=""
    for precision in $precisions; do engines="$engines graphs/model_$precision.onnx"; done
    # shellcheck disable=SC2086
    exec "$PYTHON" selftest.py --engines $engines
fi

TRTEXEC=${TRTEXEC:-$(command -v trtexec || echo /usr/src/tensorrt/bin/trtexec)}
[ -x "$TRTEXEC" ] || { echo "no trtexec at $TRTEXEC: install TensorRT (it is part of JetPack), or TRTEXEC=PATH" >&2; exit 1; }
if [ -f /etc/nv_tegra_release ]; then
    release=$(head -n 1 /etc/nv_tegra_release)
    echo "board: $release"
    case "$release" in
    *"R32 (release), REVISION: 6."*)
        echo "JetPack 4.6.0 has TensorRT 8.0, which this graph is not made for: install JetPack 4.6.1 or newer of 4.6" >&2
        exit 1
        ;;
    esac
fi
help=$("$TRTEXEC" --help 2>&1 || true)
has() { case "$help" in *"$1"*) return 0 ;; *) return 1 ;; esac; }

free=$(awk '/MemAvailable/ {print int($2 / 1024)}' /proc/meminfo)
workspace=${WORKSPACE_MB:-$((free / 2))}
if [ "$workspace" -gt 4096 ]; then workspace=4096; fi
echo "memory: $free MB free, $workspace MB for building"
if [ "$free" -lt 1500 ]; then
    echo "little memory is free: engines built so may find nothing. Close the desktop (sudo init 3), add swap, begin again."
fi
memory="--workspace=$workspace"
if has --memPoolSize; then memory="--memPoolSize=workspace:$workspace"; fi

build() { # precision
    graph="graphs/model_fp32.onnx"
    flags=""
    case "$1" in
    fp32) if has --noTF32; then flags="--noTF32"; fi ;;
    # From TensorRT 11 on there are no such flags: the graph itself says what is computed in what.
    fp16) if has --fp16; then flags="--fp16"; else graph="graphs/model_fp16.onnx"; fi ;;
    # Both together: with --int8 alone all that is not quantised would be computed in fp32.
    int8) graph="graphs/model_int8.onnx"; if has --int8; then flags="--int8 --fp16"; fi ;;
    esac
    engine="engine_$1.plan"
    echo "building $engine from $graph (minutes) ..."
    # shellcheck disable=SC2086
    if ! "$TRTEXEC" --onnx="$graph" --saveEngine="$engine.part" $flags $memory >"build_$1.log" 2>&1; then
        echo "$engine could not be built; the end of build_$1.log:" >&2
        tail -n 5 "build_$1.log" >&2
        rm -f "$engine.part"
        return 1
    fi
    if grep -qi "insufficient memory\|not enough memory\|out of memory" "build_$1.log"; then
        echo "note: memory was short while $engine was built (build_$1.log); the self-test says what that did"
    fi
    if [ "$engine" = "$former" ]; then mv "$engine" "$engine.before"; fi
    mv "$engine.part" "$engine"
}

# The engine in use, if there is one, is kept with its verdict for --rollback.
former=$("$PYTHON" -c 'import json, os; print(os.path.isfile("verdict.json") and json.load(open("verdict.json"))["engine"] or "")')
if [ -n "$former" ]; then
    rm -f engine_*.plan.before
    cp verdict.json verdict.before.json
fi

tried=""
for precision in $precisions; do
    build "$precision" || continue
    tried="$tried engine_$precision.plan"
    # shellcheck disable=SC2086
    if "$PYTHON" selftest.py --engines $tried; then exit 0; fi
done
[ -n "$tried" ] || { echo "no engine could be built" >&2; exit 1; }
echo "no engine is right on this board. ./build.sh --rollback takes the one of before, where there was one." >&2
exit 1
