#!/usr/bin/env bash
# Step 3: chooses the pictures worth labelling. `--unlabeled-dir DIR --model F [F ...]`; `--help` lists the rest.
set -euo pipefail
# shellcheck source=scripts/common.sh
. "$(dirname "$0")/common.sh"
run_marauder select "$@"
