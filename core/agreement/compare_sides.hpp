#pragma once

#include <span>

#include "core/agreement/agreement.hpp"
#include "core/agreement/exact_reference.hpp"

namespace misa {

/// Compares `side` with `against`, row by row and choice by choice. Where they differ, both are judged against exact
/// scores on what they themselves had chosen before, so that one different head is one difference and not a thousand.
/// `spec` must be as the sides ran it. Shapes that do not fit the workload: Error(input).
Agreement compare_sides(ExactReference& reference, const IndexerSpec& spec, const Selection& side,
                        const Selection& against, std::span<const Choice> choices = kChoices);

}  // namespace misa
