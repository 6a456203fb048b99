#!/usr/bin/env bash
# Builds with warnings as errors and assertions (preset dev), then runs all tests. Arguments go to ctest:
#   scripts/test.sh -R conformance
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

scripts/build.sh dev >/dev/null
exec ctest --preset dev --parallel "$(nproc)" --no-tests=error "$@"
