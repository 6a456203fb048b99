/* A C program that knows misa_kernel.h and nothing else of ours: it is linked with libmisa_kernels.so, runs our cpu
 * kernels, and compares what they select with plain loops. Ends with 77 where there is no cpu backend. */
#include <misa_kernel.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { ROWS = 7, HEADS = 8, DIM = 16, TOKENS = 90, K = 12, ACTIVE = 3, BLOCK = 16, STRIDE = K + 5 };

static float q[ROWS][HEADS][DIM], weights[ROWS][HEADS], keys[TOKENS][DIM];
static const int32_t sequence[ROWS] = {0, 0, 0, 0, 0, 0, 0};
static const int32_t begin[ROWS] = {0, 0, 0, 20, 20, 33, 80};
static const int32_t end[ROWS] = {90, 5, 61, 20, 88, 34, 90}; /* row 3 sees nothing, rows 1 and 5 less than K */
static int failures, checks;

static void check(int holds, const char* what) {
  ++checks;
  if (holds) return;
  ++failures;
  printf("failed: %s\n", what);
}

/* Multiples of 1/8 in [-2, 2): every sum below is exact, whatever its order. */
static float number(void) {
  static uint32_t state = 19;
  state = state * 1664525u + 1013904223u;
  return (float)((int)(state >> 27) - 16) / 8.0f;
}

static double product(const float* query, const float* key) {
  double dot = 0;
  int d;
  for (d = 0; d < DIM; ++d) dot += (double)query[d] * key[d];
  return dot > 0 ? dot : 0;
}

/* The k best of `count` numbers, ascending, -1 pads last; ties: the lower one. */
static void best(const double* numbers, int count, int k, int32_t* chosen) {
  int i, taken, at = 0;
  char* is_taken = calloc((size_t)count + 1, 1);
  for (taken = 0; taken < k && taken < count; ++taken) {
    int top = -1;
    for (i = 0; i < count; ++i) {
      if (!is_taken[i] && (top < 0 || numbers[i] > numbers[top])) top = i;
    }
    if (top >= 0) is_taken[top] = 1;
  }
  for (i = 0; i < count; ++i) {
    if (is_taken[i]) chosen[at++] = i;
  }
  while (at < k) chosen[at++] = -1;
  free(is_taken);
}

/* What dsa selects of row m with the `count` heads of `heads`. */
static void select_naively(int m, const int32_t* heads, int count, int32_t* chosen) {
  double scores[TOKENS];
  int t, h;
  for (t = begin[m]; t < end[m]; ++t) {
    double sum = 0;
    for (h = 0; h < count; ++h) sum += weights[m][heads[h]] * product(q[m][heads[h]], keys[t]);
    scores[t - begin[m]] = sum;
  }
  best(scores, end[m] - begin[m], K, chosen);
}

/* The router `pooled`: blocks of BLOCK tokens from the window's begin on, the last one cut at the window's end. */
static void route_naively(int m, int32_t* heads) {
  double energies[HEADS];
  int h, d, t, first;
  for (h = 0; h < HEADS; ++h) {
    energies[h] = 0;
    for (first = begin[m]; first < end[m]; first += BLOCK) {
      const int last = first + BLOCK < end[m] ? first + BLOCK : end[m];
      float mean[DIM];
      double energy;
      for (d = 0; d < DIM; ++d) {
        double sum = 0;
        for (t = first; t < last; ++t) sum += keys[t][d];
        mean[d] = (float)(sum / (last - first));
      }
      energy = weights[m][h] * product(q[m][h], mean);
      energies[h] += energy < 0 ? -energy : energy;
    }
  }
  best(energies, HEADS, ACTIVE, heads);
}

static misa_queries queries(void) {
  misa_queries of = {ROWS, HEADS, DIM, MISA_F32, 0, NULL, NULL};
  of.values = q;
  of.weights = &weights[0][0];
  return of;
}

static misa_keys contiguous(void) {
  misa_keys of;
  memset(&of, 0, sizeof of);
  of.pages = 1;
  of.page_size = TOKENS;
  of.dim = DIM;
  of.dtype = MISA_F32;
  of.values = keys;
  of.values_token_stride = sizeof keys[0];
  return of;
}

static misa_windows windows(void) {
  misa_windows of;
  of.sequence = sequence;
  of.begin = begin;
  of.end = end;
  return of;
}

static misa_index_plan plan_of(const char* indexer) {
  misa_index_plan plan;
  memset(&plan, 0, sizeof plan);
  plan.size = sizeof plan;
  plan.indexer = indexer;
  plan.rows = ROWS;
  plan.heads = HEADS;
  plan.dim = DIM;
  plan.dtype = MISA_F32;
  plan.pages = 1;
  plan.page_size = TOKENS;
  plan.host_begin = begin;
  plan.host_end = end;
  plan.top_k = K;
  plan.active_heads = ACTIVE;
  plan.block_size = BLOCK;
  return plan;
}

static misa_index_task task_of(int32_t* tokens) {
  misa_index_task task;
  memset(&task, 0, sizeof task);
  task.size = sizeof task;
  task.queries = queries();
  task.keys = contiguous();
  task.windows = windows();
  task.tokens = tokens;
  task.tokens_stride = STRIDE * (int64_t)sizeof(int32_t);
  return task;
}

static void indexers_select_what_loops_do(const misa_kernel_table* table) {
  static const char* const names[] = {"dsa", "misa"};
  int which, run, m, i;
  for (which = 0; which < 2; ++which) {
    void* planned = NULL;
    const misa_index_plan plan = plan_of(names[which]);
    check(table->plan(table->self, &plan, &planned) == MISA_OK, table->error(table->self));
    for (run = 0; run < 2; ++run) {
      int32_t tokens[ROWS][STRIDE], heads[HEADS], expected[K];
      const misa_index_task task = task_of(&tokens[0][0]);
      memset(tokens, 0x55, sizeof tokens);
      check(table->run(table->self, planned, &task, NULL) == MISA_OK, table->error(table->self));
      for (m = 0; m < ROWS; ++m) {
        for (i = 0; i < HEADS; ++i) heads[i] = i;
        if (which == 1) route_naively(m, heads);
        select_naively(m, heads, which == 1 ? ACTIVE : HEADS, expected);
        check(memcmp(tokens[m], expected, sizeof expected) == 0, names[which]);
        for (i = K; i < STRIDE; ++i) check(tokens[m][i] == 0x55555555, "what is between rows stays as it was");
      }
      q[0][0][0] += 1; /* the next run reads the queries anew */
    }
    table->release(table->self, planned);
  }
}

static void steps_agree_with_loops(const misa_kernel_table* table) {
  float logits[ROWS][TOKENS];
  int32_t tokens[ROWS][K], both[ROWS][K], heads[ROWS][ACTIVE], expected[K], all[HEADS];
  misa_score_task score;
  misa_select_task select;
  misa_route_task route;
  const void* pair[2];
  int m, i;
  memset(&score, 0, sizeof score);
  score.size = sizeof score;
  score.queries = queries();
  score.keys = contiguous();
  score.windows = windows();
  score.columns = TOKENS;
  score.logits = &logits[0][0];
  score.logits_stride = sizeof logits[0];
  check(table->accepts(table->self, MISA_SCORE, &score) == 1, "score is accepted");
  check(table->score(table->self, &score, NULL) == MISA_OK, table->error(table->self));
  memset(&select, 0, sizeof select);
  select.size = sizeof select;
  select.rows = ROWS;
  select.columns = TOKENS;
  select.logits = &logits[0][0];
  select.logits_stride = sizeof logits[0];
  select.windows = windows();
  select.k = K;
  select.tokens = &tokens[0][0];
  select.tokens_stride = sizeof tokens[0];
  check(table->select(table->self, &select, NULL) == MISA_OK, table->error(table->self));
  select.tokens = &both[0][0];
  pair[0] = &score;
  pair[1] = &select;
  check(table->accepts(table->self, MISA_SCORE_SELECT, pair) == 1, "both are accepted");
  check(table->score_select(table->self, &score, &select, NULL) == MISA_OK, table->error(table->self));
  for (i = 0; i < HEADS; ++i) all[i] = i;
  for (m = 0; m < ROWS; ++m) {
    select_naively(m, all, HEADS, expected);
    check(memcmp(tokens[m], expected, sizeof expected) == 0, "score, then select");
    check(memcmp(both[m], expected, sizeof expected) == 0, "score_select");
  }
  memset(&route, 0, sizeof route);
  route.size = sizeof route;
  route.router = "gate";
  route.queries = queries();
  route.windows = windows();
  route.active = ACTIVE;
  route.heads = &heads[0][0];
  check(table->route(table->self, &route, NULL) == MISA_OK, table->error(table->self));
  for (m = 0; m < ROWS; ++m) {
    double size[HEADS];
    for (i = 0; i < HEADS; ++i) size[i] = weights[m][i] < 0 ? -weights[m][i] : weights[m][i];
    best(size, HEADS, ACTIVE, expected);
    check(memcmp(heads[m], expected, sizeof heads[m]) == 0, "route");
  }
}

static void expect_invalid(const misa_kernel_table* table, int32_t status, const char* word) {
  check(status == MISA_INVALID, word);
  check(strstr(table->error(table->self), word) != NULL, table->error(table->self));
}

static void contradictions_are_said(const misa_kernel_table* table) {
  static const int32_t beyond[ROWS] = {91, 5, 61, 20, 88, 34, 90};
  int32_t tokens[ROWS][STRIDE];
  void* planned = NULL;
  misa_index_plan plan = plan_of("dsa");
  misa_index_task task = task_of(&tokens[0][0]);
#define REFUSED(change, word)                                            \
  plan = plan_of("dsa");                                                 \
  change;                                                                \
  expect_invalid(table, table->plan(table->self, &plan, &planned), word)
  REFUSED(plan.indexer = NULL, "indexer is null");
  REFUSED(plan.indexer = "dsb", "dsb");
  REFUSED(plan.router = "maze", "maze");
  REFUSED(plan.block_window = "ajar", "ajar");
  REFUSED(plan.top_k = -1, "top-k is -1");
  REFUSED(plan.heads = 0, "queries.heads is 0");
  REFUSED(plan.dtype = 9, "dtype is 9");
  REFUSED(plan.host_begin = NULL, "host_begin is null");
  REFUSED(plan.host_end = beyond, "row 0 sees [0, 91) of 90 tokens");
  REFUSED(plan.pages = 2, "keys.pages is not 1");
  REFUSED(plan.size = 4, "size of a task is 4");
  plan = plan_of("dsa");
  plan.heads = 1000;
  check(table->plan(table->self, &plan, &planned) == MISA_UNSUPPORTED, "1000 heads are not supported");
  check(table->accepts(table->self, MISA_INDEX, &plan) == 0, "1000 heads are not accepted");
  plan = plan_of("dsa");
  check(table->accepts(table->self, MISA_INDEX, &plan) == 1, "8 heads are accepted");
  check(table->plan(table->self, &plan, &planned) == MISA_OK, table->error(table->self));
#define NOT_RUN(change, word)                                                 \
  task = task_of(&tokens[0][0]);                                              \
  change;                                                                     \
  expect_invalid(table, table->run(table->self, planned, &task, NULL), word)
  NOT_RUN(task.queries.rows = 3, "queries are [3, 8, 16], and [7, 8, 16] was planned");
  NOT_RUN(task.queries.values = NULL, "queries.values is null");
  NOT_RUN(task.queries.values = (const char*)&q[0][0][0] + 1, "queries.values is not aligned");
  NOT_RUN(task.queries.weights = NULL, "queries.weights is null");
  NOT_RUN(task.queries.dtype = MISA_BF16, "dtype is not as planned");
  NOT_RUN(task.keys.values = NULL, "keys.values is null");
  NOT_RUN(task.keys.dim = 8, "keys.dim is 8");
  NOT_RUN(task.keys.values_token_stride = 60, "values_token_stride is 60");
  NOT_RUN(task.keys.page_size = 89, "page_size of the keys is not as planned");
  NOT_RUN(task.keys.max_pages = 4, "block table is not as planned");
  NOT_RUN(task.tokens = NULL, "tokens is null");
  NOT_RUN(task.tokens_stride = 4, "tokens_stride is 4 bytes");
  expect_invalid(table, table->run(table->self, NULL, &task, NULL), "planned is null");
  expect_invalid(table, table->run(table->self, planned, NULL, NULL), "a task is null");
  table->release(table->self, planned);
  table->release(table->self, NULL);
}

int main(void) {
  const misa_kernel_table* table = misa_kernels(MISA_KERNEL_VERSION, MISA_CPU, 0);
  int m, h, d;
  if (table == NULL) {
    printf("there is no cpu backend here\n");
    return 77;
  }
  check(misa_kernels(MISA_KERNEL_VERSION + 1, MISA_CPU, 0) == NULL, "another version has no table");
  check(misa_kernels(MISA_KERNEL_VERSION, MISA_CPU, 1) == NULL, "there is one CPU");
  check(misa_kernels(MISA_KERNEL_VERSION, 77, 0) == NULL, "device type 77 has no table");
  check(misa_kernels(MISA_KERNEL_VERSION, MISA_CPU, 0) == table, "the table stays");
  check(strcmp(table->name, "misa-cpu") == 0, table->name);
  for (m = 0; m < ROWS; ++m) {
    for (h = 0; h < HEADS; ++h) {
      weights[m][h] = number();
      for (d = 0; d < DIM; ++d) q[m][h][d] = number();
    }
  }
  for (m = 0; m < TOKENS; ++m) {
    for (d = 0; d < DIM; ++d) keys[m][d] = number();
  }
  memcpy(keys[50], keys[40], sizeof keys[0]); /* ties */
  indexers_select_what_loops_do(table);
  steps_agree_with_loops(table);
  contradictions_are_said(table);
  printf("%s (%s): %d checks, %d failed\n", table->name, table->description, checks, failures);
  return failures != 0;
}
