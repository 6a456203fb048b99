#!/usr/bin/env bash
# Builds with warnings as errors and assertions (preset dev), then runs all tests. Arguments go to ctest:
#   scripts/test.sh -R conformance
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

# Without these packages some tests are skipped, which they say.
[[ ${MISA_INSTALL:-1} == 0 ]] || scripts/install.sh --tests
scripts/build.sh dev >/dev/null
exec ctest --preset dev --parallel "$(nproc)" --no-tests=error "$@"
