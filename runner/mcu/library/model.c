/* The interface of model.h over the constant tables: tensors are described call by call, so that a handle takes next to no
 * memory of its own. */
#include "model.h"

#include "model_tables.h"

/* Of the C library; a freestanding one has no header for them. */
void *memcpy(void *to, const void *from, size_t bytes);

/* What compiled code calls. The object declares the pointers itself, weakly and empty; these definitions win, and as
 * constants they take no RAM. */
typedef struct {
  void *sync_handle;
  int32_t num_task;
} parallel_group;

typedef int (*parallel_function)(int task, parallel_group *group, void *data);

extern int (*const __TVMBackendParallelLaunch)(parallel_function function, void *data, int task_count);
extern int (*const __TVMBackendParallelBarrier)(int task, parallel_group *group);
extern void *(*const __TVMBackendAllocWorkspace)(int device_type, int device_id, uint64_t bytes, int type_code,
                                                 int type_bits);
extern int (*const __TVMBackendFreeWorkspace)(int device_type, int device_id, void *memory);
void TVMFFIErrorSetRaisedFromCStr(const char *kind, const char *message);
void TVMFFIErrorSetRaisedFromCStrParts(const char *kind, const char **parts, int32_t count);

/* The weights, where weights.S has put them. */
extern const uint8_t crossfarm_weights[];

/* The start of an arena; tensors lie behind it, workspaces behind them. */
struct crossfarm_model {
  uint8_t *tensors;
  uint8_t *workspace;
  size_t used;
  size_t peak;
};

_Static_assert(sizeof(struct crossfarm_model) <= CROSSFARM_MODEL_HANDLE_BYTES, "the handle has no room in the arena");
_Static_assert(CROSSFARM_MODEL_HANDLE_BYTES + CROSSFARM_MODEL_TENSOR_BYTES + CROSSFARM_MODEL_WORKSPACE_BYTES <=
                   CROSSFARM_MODEL_ARENA_BYTES,
               "the arena is smaller than its parts");

static crossfarm_model *running; /* compiled code asks for workspaces without naming its handle */
static const char *reason; /* NULL: nothing failed yet, and no RAM to begin with a text */

static crossfarm_status fail(crossfarm_status status, const char *words) {
  reason = words;
  return status;
}

/* ---- open ---- */

crossfarm_status crossfarm_model_open(void *arena, size_t bytes, crossfarm_model **result) {
  if (result != NULL) *result = NULL;
  if (result == NULL || arena == NULL)
    return fail(CROSSFARM_WRONG_USE, "crossfarm_model_open needs an arena and a place for the handle");
  if ((uintptr_t)arena % CROSSFARM_MODEL_ALIGNMENT != 0)
    return fail(CROSSFARM_WRONG_USE, "the arena is not aligned: use CROSSFARM_MODEL_ALIGNMENT");
  if (bytes < CROSSFARM_MODEL_ARENA_BYTES)
    return fail(CROSSFARM_WRONG_USE, "the arena is too small: use CROSSFARM_MODEL_ARENA_BYTES");
  crossfarm_model *model = arena;
  uint8_t *tensors = (uint8_t *)arena + CROSSFARM_MODEL_HANDLE_BYTES;
  *model = (crossfarm_model){.tensors = tensors, .workspace = tensors + CROSSFARM_MODEL_TENSOR_BYTES};
  *result = model;
  return CROSSFARM_GOOD;
}

/* ---- inputs and outputs ---- */

static const crossfarm_table_tensor *tensor_of(const crossfarm_table_port *port) {
  return &crossfarm_tables.tensors[port->tensor];
}

static uint8_t *memory_of(const crossfarm_model *model, const crossfarm_table_tensor *tensor) {
  /* Compiled code has one type of pointer for what it reads and what it writes; it writes no weights. */
  uint8_t *base = tensor->place == CROSSFARM_PLACE_ARENA ? model->tensors : (uint8_t *)(uintptr_t)crossfarm_weights;
  return base + (size_t)tensor->offset;
}

static bool describe(const crossfarm_table_port *ports, uint32_t count, size_t index, crossfarm_port *port) {
  if (index >= count || port == NULL) return false;
  const crossfarm_table_tensor *tensor = tensor_of(&ports[index]);
  *port = (crossfarm_port){
      .name = ports[index].name,
      .shape = tensor->rank > 0 ? tensor->shape : NULL,
      .bytes = (size_t)tensor->bytes,
      .rank = tensor->rank,
      .type = (crossfarm_type)(tensor->type_code << 8 | tensor->type_bits),
  };
  return true;
}

size_t crossfarm_model_input_count(void) { return crossfarm_tables.input_count; }

size_t crossfarm_model_output_count(void) { return crossfarm_tables.output_count; }

bool crossfarm_model_input(size_t index, crossfarm_port *port) {
  return describe(crossfarm_tables.inputs, crossfarm_tables.input_count, index, port);
}

bool crossfarm_model_output(size_t index, crossfarm_port *port) {
  return describe(crossfarm_tables.outputs, crossfarm_tables.output_count, index, port);
}

void *crossfarm_model_input_memory(crossfarm_model *model, size_t index) {
  if (model == NULL || index >= crossfarm_tables.input_count) return NULL;
  return memory_of(model, tensor_of(&crossfarm_tables.inputs[index]));
}

const void *crossfarm_model_output_memory(const crossfarm_model *model, size_t index) {
  if (model == NULL || index >= crossfarm_tables.output_count) return NULL;
  return memory_of(model, tensor_of(&crossfarm_tables.outputs[index]));
}

/* ---- run ---- */

static bool run_call(crossfarm_model *model, const crossfarm_table_call *call) {
  crossfarm_dl_tensor tensors[CROSSFARM_MODEL_MOST_ARGUMENTS];
  crossfarm_ffi_any arguments[CROSSFARM_MODEL_MOST_ARGUMENTS];
  if (call->count > CROSSFARM_MODEL_MOST_ARGUMENTS) return false;
  for (uint32_t i = 0; i < call->count; ++i) {
    const crossfarm_table_tensor *row = &crossfarm_tables.tensors[crossfarm_tables.arguments[call->first + i]];
    tensors[i] = (crossfarm_dl_tensor){
        .data = memory_of(model, row),
        .device = {.device_type = 1, .device_id = 0},
        .ndim = row->rank,
        .dtype = {.code = row->type_code, .bits = row->type_bits, .lanes = 1},
        /* DLPack's interface lacks the const; compiled code only reads shapes. */
        .shape = (int64_t *)(uintptr_t)row->shape,
    };
    arguments[i] = (crossfarm_ffi_any){.type_index = CROSSFARM_FFI_DLTENSOR_PTR, .v_ptr = &tensors[i]};
  }
  crossfarm_ffi_any result = {0};
  return call->function(NULL, arguments, (int32_t)call->count, &result) == 0;
}

/* Nothing to do when the caller works in the model's own memory. */
static void copy(void *to, const void *from, size_t bytes) {
  if (to != NULL && from != NULL && to != from) (void)memcpy(to, from, bytes);
}

crossfarm_status crossfarm_model_run(crossfarm_model *model, const void *const inputs[], void *const outputs[]) {
  if (model == NULL || running != NULL)
    return fail(CROSSFARM_WRONG_USE, model == NULL ? "there is no model to run" : "a model is running already");
  for (uint32_t i = 0; inputs != NULL && i < crossfarm_tables.input_count; ++i) {
    const crossfarm_table_tensor *tensor = tensor_of(&crossfarm_tables.inputs[i]);
    copy(memory_of(model, tensor), inputs[i], (size_t)tensor->bytes);
  }
  reason = "a call of the model's code failed without a reason";
  model->used = 0; /* code that fails returns without releasing what it took */
  running = model;
  bool good = true;
  for (uint32_t i = 0; good && i < crossfarm_tables.call_count; ++i) good = run_call(model, &crossfarm_tables.calls[i]);
  running = NULL;
  if (!good) return CROSSFARM_MODEL_FAILED;
  for (uint32_t i = 0; outputs != NULL && i < crossfarm_tables.output_count; ++i) {
    const crossfarm_table_tensor *tensor = tensor_of(&crossfarm_tables.outputs[i]);
    copy(outputs[i], memory_of(model, tensor), (size_t)tensor->bytes);
  }
  return CROSSFARM_GOOD;
}

/* ---- what compiled code calls ---- */

static int launch(parallel_function function, void *data, int task_count) {
  parallel_group group = {.sync_handle = NULL, .num_task = task_count > 0 ? task_count : 1};
  for (int task = 0; task < group.num_task; ++task) {
    if (function(task, &group, data) != 0) return -1;
  }
  return 0;
}

static int wait_at_barrier(int task, parallel_group *group) {
  (void)task, (void)group;
  return 0;
}

static size_t rounded(uint64_t bytes) {
  return ((size_t)bytes + CROSSFARM_MODEL_ALIGNMENT - 1) / CROSSFARM_MODEL_ALIGNMENT * CROSSFARM_MODEL_ALIGNMENT;
}

/* Workspaces are a stack: compiled code releases the last one first. */
static void *allocate(int device_type, int device_id, uint64_t bytes, int type_code, int type_bits) {
  (void)device_type, (void)device_id, (void)type_code, (void)type_bits;
  if (running == NULL || bytes > CROSSFARM_MODEL_WORKSPACE_BYTES ||
      rounded(bytes) > CROSSFARM_MODEL_WORKSPACE_BYTES - running->used) {
    reason = "the model's code asked for more workspace than was counted when it was compiled";
    return NULL;
  }
  void *memory = running->workspace + running->used;
  running->used += rounded(bytes);
  if (running->used > running->peak) running->peak = running->used;
  return memory;
}

static int release(int device_type, int device_id, void *memory) {
  (void)device_type, (void)device_id;
  if (running == NULL || (uint8_t *)memory < running->workspace || (uint8_t *)memory > running->workspace + running->used) {
    reason = "a workspace was released that is not in use";
    return -1;
  }
  running->used = (size_t)((uint8_t *)memory - running->workspace);
  return 0;
}

int (*const __TVMBackendParallelLaunch)(parallel_function, void *, int) = launch;
int (*const __TVMBackendParallelBarrier)(int, parallel_group *) = wait_at_barrier;
void *(*const __TVMBackendAllocWorkspace)(int, int, uint64_t, int, int) = allocate;
int (*const __TVMBackendFreeWorkspace)(int, int, void *) = release;

/* Messages are constants of the compiled code, so the first part can be kept as it is. */
void TVMFFIErrorSetRaisedFromCStrParts(const char *kind, const char **parts, int32_t count) {
  reason = count > 0 && parts[0] != NULL ? parts[0] : kind != NULL ? kind : "Error";
}

void TVMFFIErrorSetRaisedFromCStr(const char *kind, const char *message) {
  TVMFFIErrorSetRaisedFromCStrParts(kind, &message, 1);
}

/* ---- what the model says of itself ---- */

const char *crossfarm_model_error_text(void) { return reason != NULL ? reason : ""; }

size_t crossfarm_model_workspace_peak_bytes(const crossfarm_model *model) { return model == NULL ? 0 : model->peak; }

const char *crossfarm_model_name(void) { return crossfarm_tables.model; }

const char *crossfarm_model_target(void) { return crossfarm_tables.target; }

const char *crossfarm_model_identity(void) { return crossfarm_tables.identity; }
