#!/bin/sh
# pytorch_example.sh SCRIPT ARGUMENT…: runs an example that needs PyTorch. Exit 77 (skipped) without
# it; MOAT_PYTHON names another python3.
set -eu
python=${MOAT_PYTHON:-python3}
if ! "$python" -c 'import torch' 2>/dev/null; then
  echo "skipped: '$python' has no PyTorch; set MOAT_PYTHON to a python3 that has"
  exit 77
fi
exec "$python" "$@"
