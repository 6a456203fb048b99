// backends/cuda/score/score_widened.cu for the host.

#include "backends/cuda/score/score_widened.cu"

#include "tests/simt/simt.hpp"
