#!/usr/bin/env bash
# Step 6a: the ensemble for a board in the field, 3 x YOLOv8m. `--data-yaml FILE [--base-model FILE]`; `--help` lists the rest.
set -euo pipefail
# shellcheck source=scripts/common.sh
. "$(dirname "$0")/common.sh"
run_marauder ensemble-nano "$@"
