#!/usr/bin/env bash
# Step 7: trains detectors on at changing picture sizes. `--data-yaml FILE [--ensemble-models A,B,C]`; `--help` lists the rest.
set -euo pipefail
# shellcheck source=scripts/common.sh
. "$(dirname "$0")/common.sh"
run_marauder multiscale "$@"
