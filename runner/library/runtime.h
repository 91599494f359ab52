/* What the source files of the library share. Nothing of it leaves the library. */
#ifndef CROSSFARM_RUNTIME_H
#define CROSSFARM_RUNTIME_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "model.h"
#include "model_tables.h"

#pragma GCC visibility push(hidden)

#define CROSSFARM_ALIGNMENT 64u
#define CROSSFARM_MAX_THREADS 256u

/* errors.c: the last error of each thread. */
typedef struct {
  crossfarm_status status;
  char text[1024];
} crossfarm_error;

crossfarm_status crossfarm_fail(crossfarm_status status, const char *format, ...) __attribute__((format(printf, 2, 3)));
crossfarm_error *crossfarm_last_error(void);

/* tables.c: whether the tables can be trusted; a bug in the generator must not cause an out-of-bounds write on a board. */
crossfarm_status crossfarm_check_tables(const crossfarm_model_tables *tables);
bool crossfarm_identity_bytes(const char *identity, uint8_t bytes[32]);

/* weights.c: the weights file, mapped or, where that is impossible, read. */
typedef struct {
  uint8_t *data; /* behind the header */
  void *memory;  /* of the whole file */
  size_t size;   /* of the whole file */
  bool is_mapped;
} crossfarm_weights;

crossfarm_status crossfarm_weights_open(const char *path, const crossfarm_model_tables *tables,
                                        crossfarm_weights *weights);
void crossfarm_weights_close(crossfarm_weights *weights);

/* workspace.c: temporary memory of the compiled code, kept between runs. One thread uses one workspace. */
#define CROSSFARM_WORKSPACE_BLOCKS 32u

typedef struct {
  void *memory;
  size_t bytes;
  bool in_use;
} crossfarm_workspace_block;

typedef struct {
  crossfarm_workspace_block blocks[CROSSFARM_WORKSPACE_BLOCKS];
  size_t held_bytes;
  size_t peak_bytes;
} crossfarm_workspace;

void crossfarm_workspace_reset(crossfarm_workspace *workspace);
void crossfarm_workspace_close(crossfarm_workspace *workspace);

/* parallel.c: the threads of a handle. */
typedef struct crossfarm_pool crossfarm_pool;

crossfarm_status crossfarm_pool_open(const crossfarm_model_options *options, crossfarm_pool **pool);
void crossfarm_pool_close(crossfarm_pool *pool);
void crossfarm_pool_reset(crossfarm_pool *pool);
size_t crossfarm_pool_workspace_peak_bytes(const crossfarm_pool *pool);

/* What the code of one thread may use while it runs for a handle; compiled code finds it through the thread alone. */
typedef struct {
  crossfarm_pool *pool; /* NULL: launches run on this thread alone */
  crossfarm_workspace *workspace;
} crossfarm_context;

extern _Thread_local crossfarm_context crossfarm_current;

/* model.c: crossfarm_model_run, which also says how many nanoseconds each call took; `call_ns` has a place for each. */
crossfarm_status crossfarm_run_profiled(crossfarm_model *model, const void *const inputs[],
                                              void *const outputs[], uint64_t *call_ns);

/* Nanoseconds on the monotonic clock. */
uint64_t crossfarm_clock(void);

/* What compiled code calls. The object declares the pointers itself, weakly and empty; these definitions win. */
typedef struct {
  void *sync_handle;
  int32_t num_task;
} crossfarm_parallel_group;

typedef int (*crossfarm_parallel_function)(int task, crossfarm_parallel_group *group, void *data);

extern int (*__TVMBackendParallelLaunch)(crossfarm_parallel_function function, void *data, int task_count);
extern int (*__TVMBackendParallelBarrier)(int task, crossfarm_parallel_group *group);
extern void *(*__TVMBackendAllocWorkspace)(int device_type, int device_id, uint64_t bytes, int type_code,
                                           int type_bits);
extern int (*__TVMBackendFreeWorkspace)(int device_type, int device_id, void *memory);
void TVMFFIErrorSetRaisedFromCStr(const char *kind, const char *message);
void TVMFFIErrorSetRaisedFromCStrParts(const char *kind, const char **parts, int32_t count);

#pragma GCC visibility pop

#endif
