#!/usr/bin/env bash
# Step 1: pretrains the detector's backbone on pictures without labels. `--data-dir DIR --output DIR`; `--help` lists the
# rest.
set -euo pipefail
# shellcheck source=scripts/common.sh
. "$(dirname "$0")/common.sh"
run_marauder pretrain "$@"
