/* A plug-in that does what MISA_MISBEHAVE says: the steps of dsa_cpu.c right, in another form, or wrong in one way.
 *
 * The steps:   right, select_only, score_select, index, route
 * Other forms: moved (scores in memory of its own), any_order
 * Wrong:       wrong_ids, duplicates, out_of_range, unseen, outside (writes behind its output), error, unsupported,
 *              refuses (every task), stale (writes nothing), crash, hang, crash_table (in misa_kernels), bad_stride,
 *              bad_candidates (out of range, before a re-rank), bad_heads
 * No table:    none; version, short, nameless, name, arithmetic, flags, device, partial, empty
 */
#define misa_kernels dsa_cpu_kernels
#include "profiles/kernels/dsa_cpu.c"
#undef misa_kernels

static int is(const char* what) {
  const char* asked = getenv("MISA_MISBEHAVE");
  return strcmp(asked == NULL ? "right" : asked, what) == 0;
}

static int32_t* tokens_of(const misa_select_task* task, int64_t m) {
  return row_of(task->tokens, m, task->tokens_stride);
}

/* Spoils a right selection. */
static int32_t spoil(const misa_select_task* task) {
  int32_t* const first = tokens_of(task, 0);
  const int64_t rows = task->rows, k = task->k;
  if (is("wrong_ids") || is("unseen")) {
    for (int64_t m = 0; m < rows; ++m) {
      int32_t* const row = tokens_of(task, m);
      const int32_t seen = task->windows.end[m] - task->windows.begin[m];
      if (is("unseen")) row[k - 1] = seen;
      if (is("wrong_ids") && seen > k)
        for (int64_t i = 0; i < k; ++i) row[i] = (int32_t)i;
    }
  }
  if (is("duplicates")) first[k > 1] = first[0];
  if (is("out_of_range") || is("bad_candidates")) first[k - 1] = 1 << 30;
  if (is("outside")) tokens_of(task, rows - 1)[k] = 7;
  return is("error") ? MISA_FAILED : is("unsupported") ? MISA_UNSUPPORTED : MISA_OK;
}

static int32_t do_select(void* self, const misa_select_task* task, void* stream) {
  volatile int* const nothing = NULL;
  if (is("crash")) *nothing = 1;
  while (is("hang")) continue;
  if (is("stale")) return MISA_OK;
  const int32_t status = select_best(self, task, stream);
  if (is("any_order")) {
    for (int64_t m = 0; m < task->rows; ++m) {
      int32_t* const row = tokens_of(task, m);
      for (int64_t i = 0; i < task->k / 2; ++i) {
        const int32_t token = row[i];
        row[i] = row[task->k - 1 - i];
        row[task->k - 1 - i] = token;
      }
    }
  }
  return status == MISA_OK ? spoil(task) : status;
}

/* Scores into memory of its own, in rows that are longer by 3 columns. */
static int32_t do_score(void* self, misa_score_task* task, void* stream) {
  static float* own = NULL;
  if (is("bad_stride")) task->logits_stride += 2;
  if (is("bad_stride")) return MISA_OK;
  if (is("moved")) {
    const int64_t stride = (task->columns + 3) * (int64_t)sizeof(float);
    free(own);
    own = malloc((size_t)(task->queries.rows * stride));
    if (own == NULL) return MISA_FAILED;
    for (int64_t i = 0; i < task->queries.rows * stride / 4; ++i) own[i] = 1e30f;
    task->logits = own;
    task->logits_stride = stride;
  }
  return score(self, task, stream);
}

static int32_t do_both(void* self, misa_score_task* scored, const misa_select_task* selected, void* stream) {
  const int32_t status = score(self, scored, stream);
  return status == MISA_OK ? select_best(self, selected, stream) : status;
}

/* Keeps the heads of the largest weights. */
static int32_t do_route(void* self, const misa_route_task* task, void* stream) {
  const int64_t heads = task->queries.heads;
  (void)self, (void)stream;
  for (int64_t m = 0; m < task->queries.rows; ++m) {
    const float* const w = task->queries.weights + m * heads;
    int32_t* const kept = task->heads + m * task->active;
    int64_t count = 0;
    for (int64_t h = 0; h < heads; ++h) {
      int64_t better = 0;
      for (int64_t j = 0; j < heads; ++j) better += fabsf(w[j]) > fabsf(w[h]) || (fabsf(w[j]) == fabsf(w[h]) && j < h);
      if (better < task->active) kept[count++] = (int32_t)h;
    }
    if (is("bad_heads")) kept[0] = (int32_t)heads + 1000000;
  }
  return MISA_OK;
}

struct planned {
  misa_select_task select;
  float* logits;
};

static int32_t do_plan(void* self, const misa_index_plan* plan, void** planned) {
  (void)self;
  if (strcmp(plan->indexer, "dsa") != 0) return MISA_UNSUPPORTED;
  struct planned* const made = calloc(1, sizeof *made);
  if (made == NULL) return MISA_FAILED;
  made->select.size = sizeof made->select;
  made->select.rows = plan->rows;
  made->select.k = plan->top_k;
  for (int64_t m = 0; m < plan->rows; ++m) {
    const int64_t seen = plan->host_end[m] - plan->host_begin[m];
    if (seen > made->select.columns) made->select.columns = seen;
  }
  made->logits = malloc(sizeof(float) * (size_t)(plan->rows * made->select.columns + 1));
  *planned = made;
  return made->logits == NULL ? MISA_FAILED : MISA_OK;
}

static int32_t do_run(void* self, void* planned, const misa_index_task* task, void* stream) {
  struct planned* const made = planned;
  misa_score_task scored = {.size = sizeof scored, .queries = task->queries, .keys = task->keys};
  scored.windows = made->select.windows = task->windows;
  scored.columns = made->select.columns;
  scored.logits = made->logits;
  scored.logits_stride = made->select.columns * (int64_t)sizeof(float);
  made->select.logits = made->logits;
  made->select.logits_stride = scored.logits_stride;
  made->select.tokens = task->tokens;
  made->select.tokens_stride = task->tokens_stride;
  return do_both(self, &scored, &made->select, stream);
}

static void do_release(void* self, void* planned) {
  (void)self;
  free(((struct planned*)planned)->logits);
  free(planned);
}

static int32_t do_accept(void* self, int32_t step, const void* task) {
  if (is("refuses")) return 0;
  if (step == MISA_ROUTE) return strcmp(((const misa_route_task*)task)->router, "gate") == 0;
  if (step == MISA_SCORE_SELECT) return accepts(self, MISA_SELECT, ((const void* const*)task)[1]);
  if (step == MISA_SELECT && is("bad_candidates") && ((const misa_select_task*)task)->candidates.runs != NULL) return 0;
  return accepts(self, step, task);
}

static const char* words(void* self) {
  (void)self;
  return is("error") ? "the moon is in the wrong phase" : "";
}

const misa_kernel_table* misa_kernels(int32_t version, int32_t device_type, int32_t device) {
  static misa_kernel_table made;
  volatile int* const nothing = NULL;
  if (is("crash_table")) *nothing = 1;
  if (is("none") || device_type != MISA_CPU) return NULL;
  (void)version, (void)device;
  made = table;
  made.name = "misbehaving";
  made.accepts = do_accept;
  made.error = words;
  made.score = do_score;
  made.select = do_select;
  if (is("select_only") || is("score_select") || is("index") || is("route") || is("bad_heads") || is("any_order") ||
      is("empty") || is("partial")) {
    made.score = NULL;
    if (!is("select_only") && !is("any_order")) made.select = NULL;
  }
  if (is("score_select")) made.score_select = do_both;
  if (is("route") || is("bad_heads")) made.route = do_route;
  if (is("index") || is("partial")) made.run = do_run;
  if (is("index")) made.plan = do_plan;
  if (is("index")) made.release = do_release;
  if (is("any_order")) made.flags = MISA_ANY_ORDER;
  if (is("version")) made.version = 99;
  if (is("short")) made.size = 16;
  if (is("nameless")) made.name = NULL;
  if (is("name")) made.name = "a name";
  if (is("arithmetic")) made.arithmetic = "f33-dot";
  if (is("flags")) made.flags = 1024;
  if (is("device")) made.device_type = MISA_CUDA;
  return &made;
}
