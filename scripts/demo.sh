#!/usr/bin/env bash
# The whole pipeline, small: on generated reef scenes, or on your own labelled pictures. Called by `make demo`.
#   DATA=FOLDER    labelled pictures in any layout of docs/data.md     NAMES=a,b,c   class names, where no file has them
#   ROOT=FOLDER    the workspace (default: demo, with DATA demo-data)  any arguments: as for training/train_all.py
set -euo pipefail
cd "$(dirname "$0")/.."

arguments=(--config configs/demo.yaml)
again="make demo"
if [ -n "${DATA:-}" ]; then
    # A value in single quotes is read as it stands, with quotes in it doubled.
    quote="'"
    # Real pictures are worth a detector with COCO weights to start from, which wants a lower rate than the tiny one.
    arguments+=("baseline.model=yolov8n" "baseline.training.optimizer.learning_rate=0.002")
    # Steps 6 to 8 need several clips in val and test, which few pictures do not have.
    arguments+=("ensembles=null" "multiscale=null" "calibration=null")
    arguments+=("scenes=null" "preprocessing.organize.inputs=['${DATA//$quote/$quote$quote}']")
    again+=" DATA=$(printf %q "$DATA")"
    if [ -n "${NAMES:-}" ]; then
        quoted=${NAMES//$quote/$quote$quote}
        arguments+=("preprocessing.organize.names=['${quoted//,/$quote,$quote}']")
        again+=" NAMES=$(printf %q "$NAMES")"
    fi
    root=${ROOT:-demo-data}
else
    root=${ROOT:-demo}
fi
[ -z "${ROOT:-}" ] || again+=" ROOT=$(printf %q "$ROOT")"

export MARAUDER_RESUME_COMMAND="$again"
exec .venv/bin/python training/train_all.py --root "$root" "${arguments[@]}" "$@"
