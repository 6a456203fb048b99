/* Kernels of DSA indexers behind a C interface, both ways: misa-prof times and judges a library that exports it
 * (--backend plugin:FILE), and libmisa_kernels.so exports our own kernels by it. C99; no other header of ours is
 * needed.
 *
 * A library exports one function, misa_kernels(), which returns a table of functions. Each function does one step of an
 * indexer on memory that the caller owns. All pointers of a task are on the device of the table but where a comment
 * says "host"; work on a GPU is put on `stream` and not waited for, and nothing is allocated while a stream is
 * captured. Shapes are in brackets, strides count bytes, rows of arrays without a stride are contiguous.
 *
 * Every struct that is passed by pointer begins with its size, as its writer knew it. A later version only adds fields
 * behind the last one, and a reader takes fields beyond `size` for zero; another layout has another
 * MISA_KERNEL_VERSION.
 */
#ifndef MISA_KERNEL_H
#define MISA_KERNEL_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define MISA_KERNEL_VERSION 1

/* What functions return. After all but MISA_OK, error() may say more. */
enum {
  MISA_OK = 0,
  MISA_UNSUPPORTED = 1, /* the library cannot do this task */
  MISA_INVALID = 2,     /* the task contradicts itself */
  MISA_FAILED = 3       /* memory or the device failed */
};

/* Where memory is: DLPack's numbers. */
enum { MISA_CPU = 1, MISA_CUDA = 2 };

/* Elements of queries and keys. E4M3 is OCP FP8 e4m3fn. misa-prof has INT8 and MXFP4 too, for which this version has no
 * numbers: tasks of these are not shown to a library, and its base does them. */
enum { MISA_F32 = 0, MISA_BF16 = 1, MISA_E4M3 = 2 };

/* The steps, for accepts(). */
enum { MISA_SCORE = 0, MISA_SELECT = 1, MISA_SCORE_SELECT = 2, MISA_ROUTE = 3, MISA_INDEX = 4 };

/* Flags of a table. */
enum {
  MISA_ANY_ORDER = 1 /* selected tokens come in any order, pads too; without it: ascending, pads last */
};

/* Features of a table: what it knows that came after its first version. */
enum {
  MISA_FORCES = 1 /* it reads force_first and force_last; without it, no other columns are forced than by force_ends */
};

/* Query rows. The weight of a head holds every factor of its score: the model's weight, H^-1/2, D^-1/2, the query's
 * scale. */
typedef struct misa_queries {
  int64_t rows, heads, dim;
  int32_t dtype, reserved;
  const void* values;   /* [rows, heads, dim] */
  const float* weights; /* [rows, heads] */
} misa_queries;

/* The keys of all sequences. Contiguous: one page holds every token, sequence after sequence, and block_table is null.
 * Paged: token t of sequence s is entry t % page_size of page block_table[s][t / page_size]. */
typedef struct misa_keys {
  int64_t pages, page_size, dim;
  int32_t dtype, reserved;
  const void* values; /* [pages, page_size, dim] */
  int64_t values_page_stride, values_token_stride;
  const float* scales; /* [pages, page_size]; null: every scale is 1 */
  int64_t scales_page_stride, scales_token_stride;
  const int32_t* block_table; /* [sequences, max_pages] */
  int64_t sequences, max_pages, block_table_stride;
} misa_keys;

/* Row m sees the tokens [begin[m], end[m]) of sequence[m]. Contiguous keys count tokens from the start of the buffer,
 * paged keys from the start of the sequence. */
typedef struct misa_windows {
  const int32_t *sequence, *begin, *end; /* [rows] */
} misa_windows;

/* What a row scores when it does not score its whole window: run r of row m covers the tokens
 * origin[m] + runs[m][r] * length + [0, length), as far as they lie in the window. Runs ascend, -1 pads come last.
 * runs is null where a row scores its window. */
typedef struct misa_candidates {
  const int32_t* runs; /* [rows, runs_per_row] */
  int64_t runs_per_row, runs_stride;
  const int32_t* origin; /* [rows] */
  int64_t length;
} misa_candidates;

/* logits[m][c] = scale(t) * sum over h of weights[m][h] * relu(q[m][h] . key(t)), t the token of column c: token
 * begin[m] + c, or, with candidates, token c % length of run c / length. -inf where a column holds no visible token. */
typedef struct misa_score_task {
  size_t size;
  misa_queries queries;
  misa_keys keys;
  misa_windows windows;
  misa_candidates candidates;
  int64_t columns; /* at least the longest window, or runs_per_row * length */
  /* [rows, columns] out. A kernel that writes to memory of its own points `logits` there and sets its stride; that
   * memory stays valid until its next call. Columns beyond a row's window need not be written then. */
  float* logits;
  int64_t logits_stride;
} misa_score_task;

/* The k columns of each row with the highest scores; ties: lower token first; NaN ranks below every number. Writes
 * tokens relative to begin[m], ascending, -1 pads last. */
typedef struct misa_select_task {
  size_t size;
  int64_t rows, columns;
  const float* logits; /* [rows, columns] */
  int64_t logits_stride;
  misa_windows windows;
  misa_candidates candidates;
  int64_t k;
  int32_t force_ends, reserved; /* 1: the first and the last visible column come before all scores (HISA) */
  int32_t* tokens;              /* [rows, k] out */
  int64_t tokens_stride;
  /* So many first visible columns of a row come before all scores, then so many last ones: where a row sees more than k
   * columns, the first min(force_first, k) are selected, then the last min(force_last, k - those), then the best of the
   * others. With force_ends both are 1. Only of a table with MISA_FORCES is anything but force_ends asked. */
  int64_t force_first, force_last;
} misa_select_task;

/* Ranks heads over keys[windows] by `router` (misa-prof list says how) and keeps the best; ties: lower head first. */
typedef struct misa_route_task {
  size_t size;
  const char* router; /* host */
  misa_queries queries;
  misa_keys keys; /* pooled or sampled keys, f32, one page; or tokens; values is null where the router reads none */
  misa_windows windows;
  const float* tails; /* [rows, dim] replaces the last key of each window; null: none is replaced */
  const float* norms; /* [rows, heads] of the queries before quantisation; may be null */
  int64_t first_row;  /* number of row 0 in the whole workload */
  uint64_t seed;
  int64_t active;
  int32_t* heads; /* [rows, active] out, ascending */
} misa_route_task;

/* What an indexer is planned for. Settings that an indexer does not have are ignored; 0 or null is the default, which
 * is the command line's. */
typedef struct misa_index_plan {
  size_t size;
  const char* indexer; /* host: "dsa", "misa", "misa-dagger", "hisa", "misa-lr", "misa-lr-dagger" */
  int64_t rows, heads, dim;
  int32_t dtype, reserved;
  int64_t pages, page_size;                             /* of the keys */
  int64_t sequences, max_pages;                         /* of the block table; 0: contiguous keys */
  const int32_t *host_sequence, *host_begin, *host_end; /* host, [rows]: the windows of every run of this plan */
  const int32_t* host_lengths;                          /* host, [sequences] tokens; null for contiguous keys */
  int64_t top_k, active_heads, block_size, candidates, blocks, samples;
  const char *router, *block_window; /* host */
  uint64_t seed;
  int64_t force_first, force_last; /* tokens that every selection holds, as in misa_select_task (MISA_FORCES) */
} misa_index_plan;

/* One run of a planned indexer. */
typedef struct misa_index_task {
  size_t size;
  misa_queries queries;
  misa_keys keys;
  misa_windows windows; /* as planned */
  const float* norms;   /* [rows, heads]; null but for router qnorm */
  int32_t* tokens;      /* [rows, top_k] out, relative to begin[m], -1 pads */
  int64_t tokens_stride;
} misa_index_task;

/* What a library exports. Functions that it does not have are null. `stream` is a cudaStream_t, or null on the CPU.
 * Functions of a table are called by one thread at a time. */
typedef struct misa_kernel_table {
  size_t size;
  int32_t version, device_type;
  uint32_t flags, reserved;
  const char* name;        /* of the kernels: letters, digits, '-', '_', '.' */
  const char* description; /* a line */
  const char* arithmetic;  /* of the scores: a name of misa-prof list --arithmetic; null: not known */
  void* self;              /* handed to every function */

  /* Whether a function does this task; not 0: it does. `task` is what that function takes: a misa_index_plan for
   * MISA_INDEX, and for MISA_SCORE_SELECT const void*[2], the score task and the select task. Its pointers to device
   * memory may be null. Null: every task is accepted. */
  int32_t (*accepts)(void* self, int32_t step, const void* task);

  int32_t (*score)(void* self, misa_score_task* task, void* stream);
  int32_t (*select)(void* self, const misa_select_task* task, void* stream);
  /* Both at once. task->logits may be used as scratch. */
  int32_t (*score_select)(void* self, misa_score_task* score, const misa_select_task* select, void* stream);
  int32_t (*route)(void* self, const misa_route_task* task, void* stream);

  /* A whole indexer: planned once for rows and windows, then run any number of times without allocating. */
  int32_t (*plan)(void* self, const misa_index_plan* plan, void** planned);
  int32_t (*run)(void* self, void* planned, const misa_index_task* task, void* stream);
  void (*release)(void* self, void* planned);

  /* What went wrong last, in words; valid until the next call. */
  const char* (*error)(void* self);

  uint32_t features, reserved_features;
} misa_kernel_table;

/* The table for a device, which lives as long as the library; null where the library has none for this version, this
 * type of device or this device. */
const misa_kernel_table* misa_kernels(int32_t version, int32_t device_type, int32_t device);
typedef const misa_kernel_table* (*misa_kernels_function)(int32_t version, int32_t device_type, int32_t device);

#ifdef __cplusplus
}
#endif

#endif
