#include "backends/cuda/score/score.hpp"

#include "backends/cuda/kernels.hpp"

namespace misa::cuda {

void score(const ScoreTask& task, int num_sms, cudaStream_t stream) {
  if (std::get<View<float, 2>>(task.logits).empty()) return;
  if (tiles(task)) return score_in_tiles(task, num_sms, stream);
  if (tiles_bf16(task)) return score_in_bf16_tiles(task, num_sms, stream);
  if (shares_pages(task)) return score_shared_pages(task, num_sms, stream);
  if (single_rows(task)) return score_single_rows(task, num_sms, stream);
  if (scores_means(task)) return score_means(task, stream);
  score_plainly(task, stream);
}

}  // namespace misa::cuda
