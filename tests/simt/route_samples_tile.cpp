// backends/cuda/route/route_samples_tile.cu for the host.

#include "backends/cuda/route/route_samples_tile.cu"

#include "tests/simt/simt.hpp"
