#!/usr/bin/env bash
# Step 6b: the large ensemble for machines ashore, 3 x YOLOv8x and 3 x YOLO11x. `--data-yaml FILE`; `--help` lists the rest.
set -euo pipefail
# shellcheck source=scripts/common.sh
. "$(dirname "$0")/common.sh"
run_marauder ensemble-shore "$@"
