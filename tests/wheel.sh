#!/usr/bin/env bash
# Builds the wheel and tries it in an empty environment with one backend and no extras.
# Usage: tests/wheel.sh PYTHON_WITH_BUILD PYTHON_FOR_THE_NEW_ENVIRONMENT
set -euo pipefail
builder=$(cd "$(dirname "$1")" && pwd)/$(basename "$1")
root=$(cd "$(dirname "$0")/.." && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# From a copy, so that no build/ of an earlier state gets in.
git -C "$root" ls-files -z --cached --others --exclude-standard | (cd "$root" && xargs -0 cp --parents -t "$work")
(cd "$work" && "$builder" -m build --wheel --outdir "$work/dist" . >"$work/build.log" 2>&1) ||
  { tail -20 "$work/build.log" >&2; exit 1; }

"$2" -m venv "$work/venv"
python="$work/venv/bin/python"
"$python" -m pip install --quiet --disable-pip-version-check -c "$root/constraints.txt" "$work"/dist/*.whl jax
cd "$work/venv"
KERAS_BACKEND=jax "$python" - <<'PY'
import importlib.util
import math

for name in ("tensorflow", "tensorflow_datasets", "keras_tuner", "sklearn", "matplotlib"):
    assert importlib.util.find_spec(name) is None, f"{name} came with the bare wheel"
import keras_resnet

model = keras_resnet.build("cifar_resnet20")
assert sum(math.prod(v.shape) for v in model.trainable_variables) == 269_722
assert "site-packages" in keras_resnet.__file__, keras_resnet.__file__
for name in ("train", "tests", "studies", "benchmarks"):
    assert importlib.util.find_spec(name) is None, f"the wheel ships a top-level {name}"
PY
page=("$work"/venv/lib/python*/site-packages/keras_resnet_train/demo/page/*)
test "${#page[@]}" -ge 8 || { echo "the wheel lacks the page of demo" >&2; exit 1; }
# Read whole: `grep -q` on a pipe stops reading at the first hit, and the writer fails.
described=$(KERAS_BACKEND=jax "$work/venv/bin/keras-resnet" info cifar_resnet20)
grep -q 269,722 <<<"$described"
# Without its extra the training command ends in one line that says what to install.
if message=$("$work/venv/bin/keras-resnet" quickstart --output "$work/q" 2>&1); then
  echo "quickstart ran without the [train] extra?" >&2; exit 1
fi
test "$(wc -l <<<"$message")" = 1 && grep -q "keras3-resnet\[train" <<<"$message" ||
  { echo "unclear message: $message" >&2; exit 1; }
echo "wheel: installs and imports alone ($(du -k "$work"/dist/*.whl | cut -f1) KiB)"
