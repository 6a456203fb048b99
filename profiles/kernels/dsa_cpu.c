/* The two steps of DSA on one core, in plain C99: kernels of yours as a backend of misa-prof.
 *
 *   cc -std=c99 -O3 -shared -fPIC -I include dsa_cpu.c -o libdsa_cpu.so -lm
 *   misa-prof compare --backend plugin:./libdsa_cpu.so --rows 16
 *   misa-prof profile --backend plugin:./libdsa_cpu.so --rows 16
 *
 * misa_kernel.h is in include/ of an installed program, and in backends/plugin/ of its source. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "misa_kernel.h"

/* Element i of f32, bf16 or e4m3 values. */
static float element(const void* values, int32_t dtype, int64_t i) {
  if (dtype == MISA_F32) return ((const float*)values)[i];
  if (dtype == MISA_BF16) {
    const uint32_t bits = (uint32_t)((const uint16_t*)values)[i] << 16;
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
  }
  const int byte = ((const uint8_t*)values)[i], exponent = byte >> 3 & 15, fraction = byte & 7;
  float size = exponent == 0 ? ldexpf((float)fraction, -9) : ldexpf((float)(8 + fraction), exponent - 10);
  if ((byte & 127) == 127) size = NAN;
  return (byte & 128) != 0 ? -size : size;
}

static void* row_of(const void* rows, int64_t m, int64_t stride) { return (char*)rows + m * stride; }

/* The token of a column of row m; -1 where the row sees none there. */
static int64_t token_of(const misa_windows* windows, const misa_candidates* listed, int64_t m, int64_t column) {
  int64_t token = windows->begin[m] + column;
  if (listed->runs != NULL) {
    const int32_t run = ((const int32_t*)row_of(listed->runs, m, listed->runs_stride))[column / listed->length];
    token = run < 0 ? -1 : listed->origin[m] + run * listed->length + column % listed->length;
  }
  return token >= windows->begin[m] && token < windows->end[m] ? token : -1;
}

/* Reads a key; returns its scale. */
static float read_key(const misa_keys* keys, int32_t sequence, int64_t token, float* key) {
  int64_t page = 0, entry = token;
  if (keys->block_table != NULL) {
    const int32_t* pages = row_of(keys->block_table, sequence, keys->block_table_stride);
    page = pages[token / keys->page_size];
    entry = token % keys->page_size;
  }
  const void* from = row_of(keys->values, 1, page * keys->values_page_stride + entry * keys->values_token_stride);
  for (int64_t d = 0; d < keys->dim; ++d) key[d] = element(from, keys->dtype, d);
  if (keys->scales == NULL) return 1;
  return *(const float*)row_of(keys->scales, 1, page * keys->scales_page_stride + entry * keys->scales_token_stride);
}

/* Dots add up in float in the order of d, all heads side by side; heads add up in double. */
static int32_t score(void* self, misa_score_task* task, void* stream) {
  const misa_queries* q = &task->queries;
  const int64_t heads = q->heads, dim = q->dim;
  float* const query = malloc(sizeof(float) * (size_t)(heads * dim + dim + heads)); /* [dim][heads], key, dots */
  float *const key = query + heads * dim, *const dot = key + dim;
  if (query == NULL) return MISA_FAILED;
  (void)self, (void)stream;
  for (int64_t m = 0; m < q->rows; ++m) {
    float* const logits = row_of(task->logits, m, task->logits_stride);
    for (int64_t i = 0; i < heads * dim; ++i)
      query[i % dim * heads + i / dim] = element(q->values, q->dtype, m * heads * dim + i);
    for (int64_t c = 0; c < task->columns; ++c) {
      const int64_t token = token_of(&task->windows, &task->candidates, m, c);
      logits[c] = -INFINITY;
      if (token < 0) continue;
      const float scale = read_key(&task->keys, task->windows.sequence[m], token, key);
      memset(dot, 0, sizeof(float) * (size_t)heads);
      for (int64_t d = 0; d < dim; ++d)
        for (int64_t h = 0; h < heads; ++h) dot[h] += query[d * heads + h] * key[d];
      double sum = 0;
      for (int64_t h = 0; h < heads; ++h) sum += (double)q->weights[m * heads + h] * (dot[h] < 0 ? 0 : dot[h]);
      logits[c] = (float)(scale * sum);
    }
  }
  free(query);
  return MISA_OK;
}

struct scored {
  float score;
  int32_t token;
};

/* Higher scores first, NaN last; ties: the lower token. */
static int by_rank(const void* left, const void* right) {
  const struct scored *a = left, *b = right;
  if (isnan(a->score) != isnan(b->score)) return isnan(a->score) ? 1 : -1;
  if (a->score > b->score || a->score < b->score) return a->score > b->score ? -1 : 1;
  return a->token < b->token ? -1 : 1;
}

static int ascending(const void* left, const void* right) {
  return *(const int32_t*)left < *(const int32_t*)right ? -1 : 1;
}

static int32_t select_best(void* self, const misa_select_task* task, void* stream) {
  struct scored* const row = malloc(sizeof *row * (size_t)(task->columns + 1));
  if (row == NULL) return MISA_FAILED;
  (void)self, (void)stream;
  for (int64_t m = 0; m < task->rows; ++m) {
    const float* const logits = row_of(task->logits, m, task->logits_stride);
    int32_t* const tokens = row_of(task->tokens, m, task->tokens_stride);
    int64_t count = 0;
    for (int64_t c = 0; c < task->columns; ++c) {
      const int64_t token = token_of(&task->windows, &task->candidates, m, c);
      if (token < 0) continue;
      row[count].score = logits[c];
      row[count++].token = (int32_t)(token - task->windows.begin[m]);
    }
    qsort(row, (size_t)count, sizeof *row, by_rank);
    const int64_t kept = count < task->k ? count : task->k;
    for (int64_t i = 0; i < task->k; ++i) tokens[i] = i < kept ? row[i].token : -1;
    qsort(tokens, (size_t)kept, sizeof *tokens, ascending);
  }
  free(row);
  return MISA_OK;
}

/* Blocks are selected with their ends forced, which select_best does not do: the program does. */
static int32_t accepts(void* self, int32_t step, const void* task) {
  (void)self;
  return step != MISA_SELECT || ((const misa_select_task*)task)->force_ends == 0;
}

static const misa_kernel_table table = {.size = sizeof(misa_kernel_table),
                                        .version = MISA_KERNEL_VERSION,
                                        .device_type = MISA_CPU,
                                        .name = "dsa_cpu",
                                        .description = "DSA in C99, on one core",
                                        .arithmetic = "f32-dot",
                                        .accepts = accepts,
                                        .score = score,
                                        .select = select_best};

const misa_kernel_table* misa_kernels(int32_t version, int32_t device_type, int32_t device) {
  (void)device;
  return version == MISA_KERNEL_VERSION && device_type == MISA_CPU ? &table : NULL;
}
