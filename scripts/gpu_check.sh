#!/usr/bin/env bash
# Every check that needs a GPU, and a report of them to attach to an issue: scripts/gpu_check.py says which.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
exec "${PYTHON:-python3}" "$root/scripts/gpu_check.py" "$@"
