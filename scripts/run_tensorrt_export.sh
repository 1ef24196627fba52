#!/usr/bin/env bash
# Step 9: writes the deployable formats of trained models. `--models A.pt B.pt` (or A.pt,B.pt); `--help` lists the rest.
set -euo pipefail
# shellcheck source=scripts/common.sh
. "$(dirname "$0")/common.sh"
run_marauder export "$@"
