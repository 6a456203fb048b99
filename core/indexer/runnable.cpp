#include "core/indexer/runnable.hpp"

#include <utility>

#include "core/base/error.hpp"

namespace misa {

std::vector<IndexerSpec> runnable_specs(const Backend& backend, const Shape& shape,
                                        const std::vector<IndexerSpec>& specs, std::vector<Refusal>& refused) {
  std::vector<IndexerSpec> left;
  std::string reasons;
  for (const IndexerSpec& spec : specs) {
    if (auto reason = backend.why_not(spec, shape)) {
      reasons += (reasons.empty() ? ": " : "; ") + spec.name + ": " + *reason;
      refused.push_back({spec.name, std::string(backend.name()), std::move(*reason)});
    } else {
      left.push_back(spec);
    }
  }
  if (!left.empty()) return left;
  throw Error(ErrorKind::unavailable, "MP-E405",
              "backend " + std::string(backend.name()) + " can run none of these indexers" + reasons, {},
              "another --backend, or fewer of what is too many");
}

}  // namespace misa
