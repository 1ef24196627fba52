#!/usr/bin/env bash
# Step 6c: one small detector taught by an ensemble. `--teacher FOLDER --data-yaml FILE [--unlabelled DIR …]`; `--help` lists the rest.
set -euo pipefail
# shellcheck source=scripts/common.sh
. "$(dirname "$0")/common.sh"
run_marauder student "$@"
