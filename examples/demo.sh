#!/usr/bin/env bash
# The main job in two steps, with the stock command line:
# 1. mark one defect, find the others, with the head that comes with the package: no training at all;
# 2. a short episodic training on rendered surfaces, then the test on surfaces never trained on.
set -euo pipefail
PYTHON=${PYTHON:-python}
ANOMALIB="$(dirname "$PYTHON")/anomalib"
export PYTHONWARNINGS=ignore
export OMP_WAIT_POLICY=${OMP_WAIT_POLICY:-PASSIVE} # idle threads sleep: other programs may run beside this one
OUT=results/demo
mkdir -p "$OUT"

echo "== 1. One marked defect, three parts to search =="
"$PYTHON" examples/render_parts.py "$OUT/parts"
"$ANOMALIB" predict --model Sofs --model.support "$OUT/parts/support" --data "$OUT/parts/images" \
    --default_root_dir "$OUT"

echo "== 2. Episodic training on rendered surfaces, test on surfaces never trained on =="
"$ANOMALIB" train --config configs/demo.yaml --default_root_dir "$OUT"
