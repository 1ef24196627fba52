#!/usr/bin/env bash
# Step 0: restores colour and contrast of underwater pictures. `--input DIR --output DIR`; `--help` lists the rest.
set -euo pipefail
# shellcheck source=scripts/common.sh
. "$(dirname "$0")/common.sh"
run_marauder preprocess "$@"
