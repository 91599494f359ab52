/* A model made by hand, with every feature that compiled code uses: weights, parallel launches with and without a
 * barrier, workspaces, views, several inputs and outputs, and errors on request.
 *
 *   scaled[i]  = values[i] * weights[i]                 in a workspace, then in parallel
 *   share[i]   = scaled[i]^2 / sum of scaled^2          two phases with a barrier when there are enough threads
 *   echo       = command
 *   weights    = the weights themselves
 *
 * `command`, the second input, makes it fail: see obey(). The macros below spoil the tables for the tests of
 * their checks.
 */
#include <string.h>

#include "model_tables.h"

enum { COUNT = 16, CPU = 1, FLOAT = 2 };

typedef struct {
  void *sync_handle;
  int32_t num_task;
} task_group;

typedef int (*task_function)(int task, task_group *group, void *data);

/* As TVM's objects declare them: weak, empty, to be filled by the runtime. */
__attribute__((weak)) int (*__TVMBackendParallelLaunch)(task_function function, void *data, int tasks);
__attribute__((weak)) int (*__TVMBackendParallelBarrier)(int task, task_group *group);
__attribute__((weak)) void *(*__TVMBackendAllocWorkspace)(int type, int id, uint64_t bytes, int code, int bits);
__attribute__((weak)) int (*__TVMBackendFreeWorkspace)(int type, int id, void *memory);
void TVMFFIErrorSetRaisedFromCStrParts(const char *kind, const char **parts, int32_t count);

static crossfarm_dl_tensor *tensor_of(const crossfarm_ffi_any *argument) {
  return argument->type_index == CROSSFARM_FFI_DLTENSOR_PTR ? argument->v_ptr : NULL;
}

static void *data_of(const crossfarm_ffi_any *argument) { return tensor_of(argument)->data; }

static int raise_error(const char *text) {
  const char *parts[] = {"argument 0 of ", NULL, text};
  TVMFFIErrorSetRaisedFromCStrParts("ValueError", parts, 3);
  return -1;
}

/* ---- scale ---- */

typedef struct {
  const float *values;
  const float *weights;
  float *scratch;
  float *result;
} scaling;

static int scale_task(int task, task_group *group, void *data) {
  const scaling *work = data;
  for (int i = task; i < COUNT; i += group->num_task) work->result[i] = work->scratch[i] * work->weights[i];
  return 0;
}

static int scale(void *self, const crossfarm_ffi_any *arguments, int32_t count, crossfarm_ffi_any *result) {
  (void)self, (void)result;
  if (count != 3 || tensor_of(&arguments[0])->ndim != 2 || tensor_of(&arguments[0])->shape[1] != 8)
    return raise_error("scale has another shape");
  scaling work = {
      .values = data_of(&arguments[0]), .weights = data_of(&arguments[1]), .result = data_of(&arguments[2])};
  work.scratch = __TVMBackendAllocWorkspace(CPU, 0, COUNT * sizeof(float), FLOAT, 32);
  if (work.scratch == NULL) return -1;
  if ((uintptr_t)work.scratch % 64 != 0 || (uintptr_t)work.result % 64 != 0 || (uintptr_t)work.weights % 64 != 0)
    return raise_error("scale is not aligned");
  memcpy(work.scratch, work.values, COUNT * sizeof(float));
  if (__TVMBackendParallelLaunch(scale_task, &work, 0) != 0) return -1;
  return __TVMBackendFreeWorkspace(CPU, 0, work.scratch);
}

/* ---- share ---- */

typedef struct {
  const float *scaled;
  float *squares;
  float *result;
} sharing;

static int nested_task(int task, task_group *group, void *data) {
  (void)task;
  *(int *)data += group->num_task; /* runs alone: a launch inside of a task is not spread */
  return 0;
}

static int share_task(int task, task_group *group, void *data) {
  const sharing *work = data;
  int nested = 0;
  if (__TVMBackendParallelLaunch(nested_task, &nested, 0) != 0 || nested != 1) return raise_error("nested launch");
  float *own = __TVMBackendAllocWorkspace(CPU, 0, 5000, FLOAT, 32);
  if (own == NULL) return -1;
  for (int i = task; i < COUNT; i += group->num_task) {
    own[i] = work->scaled[i] * work->scaled[i];
    work->squares[i] = own[i];
  }
  if (__TVMBackendFreeWorkspace(CPU, 0, own) != 0) return -1;
  if (__TVMBackendParallelBarrier(task, group) != 0) return -1;
  float sum = 0;
  for (int i = 0; i < COUNT; ++i) sum += work->squares[i];
  if (__TVMBackendParallelBarrier(task, group) != 0) return -1;
  for (int i = task; i < COUNT; i += group->num_task) work->result[i] = work->squares[i] / sum;
  return 0;
}

static int share(void *self, const crossfarm_ffi_any *arguments, int32_t count, crossfarm_ffi_any *result) {
  (void)self, (void)result;
  if (count != 2 || tensor_of(&arguments[0])->ndim != 1) return raise_error("share has another shape");
  sharing work = {.scaled = data_of(&arguments[0]), .result = data_of(&arguments[1])};
  work.squares = __TVMBackendAllocWorkspace(CPU, 0, COUNT * sizeof(float), FLOAT, 32);
  if (work.squares == NULL || __TVMBackendParallelLaunch(share_task, &work, 0) != 0) return -1;
  return __TVMBackendFreeWorkspace(CPU, 0, work.squares);
}

/* ---- obey ---- */

static int failing_task(int task, task_group *group, void *data) {
  (void)data;
  if (task == group->num_task - 1) return raise_error("a task");
  return __TVMBackendParallelBarrier(task, group); /* the failed one never arrives */
}

static int crowded_task(int task, task_group *group, void *data) {
  (void)data;
  return __TVMBackendParallelBarrier(task, group);
}

static int uneven_task(int task, task_group *group, void *data) {
  if (group->num_task != 7) return raise_error("tasks");
  ((int *)data)[task] += 1;
  return 0;
}

static int uneven_launch(void) {
  int seen[7] = {0};
  if (__TVMBackendParallelLaunch(uneven_task, seen, 7) != 0) return -1;
  for (int i = 0; i < 7; ++i) {
    if (seen[i] != 1) return raise_error("each task runs once");
  }
  return 0;
}

static int hold_many_workspaces(void) {
  for (int i = 0; i < 1000; ++i) {
    if (__TVMBackendAllocWorkspace(CPU, 0, 64, FLOAT, 32) == NULL) return -1;
  }
  return 0;
}

static volatile uintptr_t nowhere = 8; /* volatile: the compiler would see through a constant */

static int obey(void *self, const crossfarm_ffi_any *arguments, int32_t count, crossfarm_ffi_any *result) {
  (void)self, (void)count, (void)result;
  const int32_t command = *(int32_t *)data_of(&arguments[0]);
  *(int32_t *)data_of(&arguments[1]) = command;
  switch (command) {
    case 1: return raise_error("obey\nwas told to fail");
    case 2: return -1;
    case 3: return __TVMBackendParallelLaunch(failing_task, NULL, 0);
    case 4: return __TVMBackendAllocWorkspace(CPU, 0, UINT64_MAX / 4, FLOAT, 32) == NULL ? -1 : 0;
    case 5: return hold_many_workspaces();
    case 6: return __TVMBackendFreeWorkspace(CPU, 0, &result);
    case 7: return __TVMBackendParallelLaunch(crowded_task, NULL, 64);
    case 8: return uneven_launch();
    case 9: *(volatile int *)nowhere = 1; return 0;
    case 10: __builtin_trap();
    default: return 0;
  }
}

/* ---- tables ---- */

static const int64_t matrix[] = {2, 8}, vector[] = {COUNT}, one[] = {1};

#ifndef OFFSET_OF_RESULT
#define OFFSET_OF_RESULT 192
#endif
#ifndef BYTES_OF_RESULT
#define BYTES_OF_RESULT 64
#endif
#ifndef BITS_OF_RESULT
#define BITS_OF_RESULT 32
#endif
#ifndef RANK_OF_RESULT
#define RANK_OF_RESULT 2
#endif
#ifndef PLACE_OF_RESULT
#define PLACE_OF_RESULT CROSSFARM_PLACE_ARENA
#endif
#ifndef FIRST_OF_OBEY
#define FIRST_OF_OBEY 5
#endif
#ifndef HAS_OBEY
#define HAS_OBEY 1
#endif
#ifndef LAST_ARGUMENT
#define LAST_ARGUMENT 6
#endif
#ifndef TENSOR_OF_INPUT
#define TENSOR_OF_INPUT 0
#endif
#ifndef TENSOR_OF_OUTPUT
#define TENSOR_OF_OUTPUT 4
#endif
#ifndef ARENA_BYTES
#define ARENA_BYTES 256
#endif
#ifndef MODEL_NAME
#define MODEL_NAME "sample"
#endif
#ifndef IDENTITY
#define IDENTITY "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
#endif

static const crossfarm_table_tensor tensors[] = {
    {matrix, 0, 64, 2, CROSSFARM_PLACE_ARENA, FLOAT, 32},
    {vector, 0, 64, 1, CROSSFARM_PLACE_WEIGHTS, FLOAT, 32},
    {matrix, 64, 64, 2, CROSSFARM_PLACE_ARENA, FLOAT, 32},
    {vector, 64, 64, 1, CROSSFARM_PLACE_ARENA, FLOAT, 32}, /* a view of the one before */
    {matrix, OFFSET_OF_RESULT, BYTES_OF_RESULT, RANK_OF_RESULT, PLACE_OF_RESULT, FLOAT, BITS_OF_RESULT},
    {one, 128, 4, 1, CROSSFARM_PLACE_ARENA, 0, 32},
    {NULL, 0, 4, 0, CROSSFARM_PLACE_ARENA, 0, 32}, /* a scalar over the values, which are not needed any more */
};
static const uint32_t arguments[] = {0, 1, 2, 3, 4, 5, LAST_ARGUMENT};
static const crossfarm_table_call calls[] = {
    {scale, "scale", 0, 3},
    {share, "share", 3, 2},
    {HAS_OBEY ? obey : NULL, "obey", FIRST_OF_OBEY, 2},
};
static const crossfarm_table_port inputs[] = {{"values", TENSOR_OF_INPUT}, {"command", 5}};
static const crossfarm_table_port outputs[] = {{"share", TENSOR_OF_OUTPUT}, {"echo", 6}, {"weights", 1}};

const crossfarm_model_tables crossfarm_tables = {
    .model = MODEL_NAME,
    .identity = IDENTITY,
    .target = "host",
    .weights_bytes = 64,
    .arena_bytes = ARENA_BYTES,
    .tensors = tensors,
    .calls = calls,
    .arguments = arguments,
    .inputs = inputs,
    .outputs = outputs,
    .tensor_count = sizeof tensors / sizeof *tensors,
    .call_count = sizeof calls / sizeof *calls,
    .argument_count = sizeof arguments / sizeof *arguments,
    .input_count = sizeof inputs / sizeof *inputs,
    .output_count = sizeof outputs / sizeof *outputs,
};
