#!/usr/bin/env bash
# Step 2: trains the baseline detector. `--data-yaml F --output DIR`; `--help` lists the rest.
set -euo pipefail
# shellcheck source=scripts/common.sh
. "$(dirname "$0")/common.sh"
run_marauder baseline "$@"
