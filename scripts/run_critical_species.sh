#!/usr/bin/env bash
# Step 5: specialises the detector on critical species. `--data-dir DIR [--oversample] [--train]`; `--help` lists the rest.
set -euo pipefail
# shellcheck source=scripts/common.sh
. "$(dirname "$0")/common.sh"
run_marauder critical "$@"
