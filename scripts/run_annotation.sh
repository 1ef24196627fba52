#!/usr/bin/env bash
# Step 4: sends pictures out for annotation and takes them back. `export | import | status`; `--help` lists the rest.
set -euo pipefail
# shellcheck source=scripts/common.sh
. "$(dirname "$0")/common.sh"
run_marauder annotation "$@"
