#!/usr/bin/env bash
# Runs the tests of profiles/recorder that need wheels: torch, transformers and Triton, on the CPU.
#
#   scripts/test_recorder.sh [--wheels-only] [ARGUMENT of pytest...]
#
# The wheels go to build/wheels/VERSIONS (or MISA_WHEELS_DIR/VERSIONS), once for each set of versions below: a gigabyte,
# two minutes. The program is MISA_PROF, or build/dev. Where wheels cannot be had, it says so and ends with 77.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

torch=2.15.0 transformers=5.24.0 triton=3.9.0
# torch is linked against CUDA's libraries and loads them even where there is no GPU. The toolkit has most of them.
cuda=(nvidia-cufile==1.20.0.107 nvidia-cusparselt-cu13==0.8.1 nvidia-nvshmem-cu13==3.7.2 nvidia-nccl-cu13==2.30.7)
python=${PYTHON:-python3}

tag=torch-$torch-transformers-$transformers-triton-$triton-xdist-$("$python" -c 'import sys; print("py%d.%d" % sys.version_info[:2])')
environment=$(realpath -m "${MISA_WHEELS_DIR:-build/wheels}/$tag")
pip() { "$environment/bin/python" -m pip --disable-pip-version-check install --quiet --no-compile "$@"; }
loads() { "$environment/bin/python" -c 'import torch, transformers, triton; torch.ones(1)' 2>/dev/null; }
missing() {
  echo "skipped: $1" >&2
  exit 77
}

if [[ ! -e $environment/complete ]]; then
  begin=$SECONDS
  rm -rf "$environment"
  mkdir -p "$(dirname "$environment")"
  "$python" -m venv "$environment" || missing 'this Python makes no environment (Debian: python3-venv)'
  pip "transformers==$transformers" numpy pytest pytest-xdist 'setuptools>=77' \
    filelock typing-extensions sympy networkx jinja2 fsspec || missing 'no wheels of transformers can be had'
  pip --no-deps "torch==$torch" "triton==$triton" "${cuda[@]}" || missing 'no wheels of torch can be had'
  # Without a CUDA toolkit of its version torch needs all of its wheels, three gigabytes.
  loads || pip "torch==$torch" || missing 'no wheels of torch can be had'
  loads || missing 'torch cannot be imported'
  touch "$environment/complete"
  echo "the wheels took $((SECONDS - begin)) s"
fi
# The package itself, anew each time, for its entry points are tested too; from a copy, where setuptools may leave files.
copy=$(mktemp -d)
trap 'rm -rf "$copy"' EXIT
cp -r profiles/recorder/. "$copy"
pip --no-deps --no-build-isolation --force-reinstall "$copy"
[[ ${1:-} != --wheels-only ]] || exit 0

export MISA_WHEELS=1 PYTHONDONTWRITEBYTECODE=1 MISA_PROF
MISA_PROF=$(realpath "${MISA_PROF:-build/dev/cli/misa-prof}")
cd profiles/recorder
# As many at once as there are cores: most of a test is starting torch.
OMP_WAIT_POLICY=passive "$environment/bin/python" -m pytest --numprocesses "$(nproc)" "${@:-tests}"
