#!/usr/bin/env bash
# Step 8: views, calibration and thresholds. `--models A B ... --val-dataset DIR|F [--tta ...]`; `--help` lists the rest.
set -euo pipefail
# shellcheck source=scripts/common.sh
. "$(dirname "$0")/common.sh"
run_marauder calibrate "$@"
