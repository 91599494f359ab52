/* The public interface over the constant tables: everything is laid out once at open, a run is a loop over calls. */
#define _GNU_SOURCE
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "runtime.h"

typedef struct {
  crossfarm_packed_function function;
  const crossfarm_ffi_any *arguments;
  int32_t count;
} call;

struct crossfarm_model {
  const crossfarm_model_tables *tables;
  crossfarm_weights weights;
  uint8_t *arena;
  crossfarm_dl_tensor *tensors;
  crossfarm_ffi_any *arguments;
  call *calls;
  crossfarm_port *ports; /* inputs, then outputs */
  crossfarm_pool *pool;
  crossfarm_workspace workspace;
};

/* ---- open ---- */

static void lay_out_tensors(crossfarm_model *model) {
  const crossfarm_model_tables *tables = model->tables;
  for (uint32_t i = 0; i < tables->tensor_count; ++i) {
    const crossfarm_table_tensor *row = &tables->tensors[i];
    uint8_t *base = row->place == CROSSFARM_PLACE_ARENA ? model->arena : model->weights.data;
    model->tensors[i] = (crossfarm_dl_tensor){
        .data = base + row->offset,
        .device = {.device_type = 1, .device_id = 0},
        .ndim = row->rank,
        .dtype = {.code = row->type_code, .bits = row->type_bits, .lanes = 1},
        /* DLPack's interface lacks the const; compiled code only reads shapes. */
        .shape = (int64_t *)(uintptr_t)row->shape,
    };
  }
}

static void lay_out_calls(crossfarm_model *model) {
  const crossfarm_model_tables *tables = model->tables;
  for (uint32_t i = 0; i < tables->argument_count; ++i) {
    if (tables->arguments[i] >= tables->tensor_count) continue; /* an entry that no call uses */
    model->arguments[i].type_index = CROSSFARM_FFI_DLTENSOR_PTR;
    model->arguments[i].v_ptr = &model->tensors[tables->arguments[i]];
  }
  for (uint32_t i = 0; i < tables->call_count; ++i) {
    const crossfarm_table_call *row = &tables->calls[i];
    model->calls[i] = (call){
        .function = row->function, .arguments = model->arguments + row->first, .count = (int32_t)row->count};
  }
}

static void lay_out_ports(crossfarm_model *model) {
  const crossfarm_model_tables *tables = model->tables;
  for (uint32_t i = 0; i < tables->input_count + tables->output_count; ++i) {
    const crossfarm_table_port *row =
        i < tables->input_count ? &tables->inputs[i] : &tables->outputs[i - tables->input_count];
    const crossfarm_table_tensor *tensor = &tables->tensors[row->tensor];
    model->ports[i] = (crossfarm_port){
        .name = row->name,
        .shape = tensor->rank > 0 ? tensor->shape : NULL,
        .bytes = (size_t)tensor->bytes,
        .rank = tensor->rank,
        .type = (crossfarm_type)(tensor->type_code << 8 | tensor->type_bits),
    };
  }
}

static bool allocate(crossfarm_model *model) {
  const crossfarm_model_tables *tables = model->tables;
  const size_t ports = (size_t)tables->input_count + tables->output_count;
  /* One more than needed: calloc of nothing may return NULL. */
  model->tensors = calloc((size_t)tables->tensor_count + 1, sizeof *model->tensors);
  model->arguments = calloc((size_t)tables->argument_count + 1, sizeof *model->arguments);
  model->calls = calloc((size_t)tables->call_count + 1, sizeof *model->calls);
  model->ports = calloc(ports + 1, sizeof *model->ports);
  void *arena = NULL;
  const size_t arena_bytes = tables->arena_bytes > 0 ? (size_t)tables->arena_bytes : CROSSFARM_ALIGNMENT;
  if (posix_memalign(&arena, CROSSFARM_ALIGNMENT, arena_bytes) != 0) return false;
  /* Touching every page now keeps page faults out of the first run, and makes equal runs start from equal memory. */
  memset(arena, 0, arena_bytes);
  model->arena = arena;
  return model->tensors != NULL && model->arguments != NULL && model->calls != NULL && model->ports != NULL;
}

static crossfarm_status open_parts(crossfarm_model *model, const char *weights_path,
                                   const crossfarm_model_options *options) {
  crossfarm_status status = crossfarm_check_tables(model->tables);
  if (status != CROSSFARM_GOOD) return status;
  status = crossfarm_weights_open(weights_path, model->tables, &model->weights);
  if (status != CROSSFARM_GOOD) return status;
  if (!allocate(model))
    return crossfarm_fail(CROSSFARM_MACHINE_FAILED, "out of memory: the model needs an arena of %zu bytes",
                          (size_t)model->tables->arena_bytes);
  lay_out_tensors(model);
  lay_out_calls(model);
  lay_out_ports(model);
  return crossfarm_pool_open(options, &model->pool);
}

crossfarm_status crossfarm_model_open(const char *weights_path, const crossfarm_model_options *options,
                                      crossfarm_model **result) {
  static const crossfarm_model_options defaults = {0};
  if (result != NULL) *result = NULL;
  if (result == NULL || weights_path == NULL)
    return crossfarm_fail(CROSSFARM_WRONG_USE, "crossfarm_model_open needs a weights file and a place for the handle");
  if (options == NULL) options = &defaults;
  if (options->threads > CROSSFARM_MAX_THREADS)
    return crossfarm_fail(CROSSFARM_WRONG_USE, "%u threads asked for, at most %u are possible", options->threads,
                          CROSSFARM_MAX_THREADS);
  if (options->processor_count > 0 && options->processors == NULL)
    return crossfarm_fail(CROSSFARM_WRONG_USE, "processor_count is %u, but there is no list of processors",
                          options->processor_count);
  crossfarm_model *model = calloc(1, sizeof *model);
  if (model == NULL) return crossfarm_fail(CROSSFARM_MACHINE_FAILED, "out of memory: a handle");
  model->tables = &crossfarm_tables;
  const crossfarm_status status = open_parts(model, weights_path, options);
  if (status != CROSSFARM_GOOD) {
    crossfarm_model_close(model);
    return status;
  }
  *result = model;
  return CROSSFARM_GOOD;
}

void crossfarm_model_close(crossfarm_model *model) {
  if (model == NULL) return;
  crossfarm_pool_close(model->pool);
  crossfarm_workspace_close(&model->workspace);
  crossfarm_weights_close(&model->weights);
  free(model->arena);
  free(model->ports);
  free(model->calls);
  free(model->arguments);
  free(model->tensors);
  free(model);
}

/* ---- run ---- */

static crossfarm_status call_failed(crossfarm_model *model, uint32_t index) {
  /* The code returned half-way: what it holds is taken back, and the handle stays usable. */
  crossfarm_workspace_reset(&model->workspace);
  crossfarm_pool_reset(model->pool);
  const crossfarm_error *error = crossfarm_last_error();
  const bool has_reason = error->status != CROSSFARM_GOOD;
  return crossfarm_fail(has_reason ? error->status : CROSSFARM_MODEL_FAILED, "call %u of %u, %s: %s", index + 1,
                        model->tables->call_count, model->tables->calls[index].name,
                        has_reason ? error->text : "failed without a reason");
}

uint64_t crossfarm_clock(void) {
  struct timespec now;
  (void)clock_gettime(CLOCK_MONOTONIC, &now);
  return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static bool run_call(const call *current) {
  crossfarm_ffi_any result = {0};
  return current->function(NULL, current->arguments, current->count, &result) == 0;
}

static crossfarm_status run_calls(crossfarm_model *model) {
  const uint32_t count = model->tables->call_count;
  for (uint32_t i = 0; i < count; ++i) {
    if (!run_call(&model->calls[i])) return call_failed(model, i);
  }
  return CROSSFARM_GOOD;
}

/* The end of a call is the start of the next one, so that the times add up to that of the run. */
static crossfarm_status run_timed_calls(crossfarm_model *model, uint64_t *call_ns) {
  const uint32_t count = model->tables->call_count;
  uint64_t start = crossfarm_clock();
  for (uint32_t i = 0; i < count; ++i) {
    if (!run_call(&model->calls[i])) return call_failed(model, i);
    const uint64_t end = crossfarm_clock();
    call_ns[i] = end - start;
    start = end;
  }
  return CROSSFARM_GOOD;
}

/* Nothing to do when the caller works in the model's own memory. */
static void copy(void *to, const void *from, size_t bytes) {
  if (bytes > 0 && to != from) memcpy(to, from, bytes);
}

crossfarm_status crossfarm_model_run(crossfarm_model *model, const void *const inputs[], void *const outputs[]) {
  return crossfarm_run_profiled(model, inputs, outputs, NULL);
}

crossfarm_status crossfarm_run_profiled(crossfarm_model *model, const void *const inputs[],
                                              void *const outputs[], uint64_t *call_ns) {
  const crossfarm_model_tables *tables = model->tables;
  for (uint32_t i = 0; i < tables->input_count; ++i) {
    copy(model->tensors[tables->inputs[i].tensor].data, inputs[i], model->ports[i].bytes);
  }
  const crossfarm_context before = crossfarm_current;
  crossfarm_current = (crossfarm_context){.pool = model->pool, .workspace = &model->workspace};
  crossfarm_last_error()->status = CROSSFARM_GOOD;
  const crossfarm_status status = call_ns == NULL ? run_calls(model) : run_timed_calls(model, call_ns);
  crossfarm_current = before;
  if (status != CROSSFARM_GOOD) return status;
  for (uint32_t i = 0; i < tables->output_count; ++i) {
    copy(outputs[i], model->tensors[tables->outputs[i].tensor].data, model->ports[tables->input_count + i].bytes);
  }
  return CROSSFARM_GOOD;
}

/* ---- what a handle says of itself ---- */

size_t crossfarm_model_input_count(const crossfarm_model *model) { return model->tables->input_count; }

size_t crossfarm_model_output_count(const crossfarm_model *model) { return model->tables->output_count; }

const crossfarm_port *crossfarm_model_input(const crossfarm_model *model, size_t index) {
  return index < model->tables->input_count ? &model->ports[index] : NULL;
}

const crossfarm_port *crossfarm_model_output(const crossfarm_model *model, size_t index) {
  return index < model->tables->output_count ? &model->ports[model->tables->input_count + index] : NULL;
}

void *crossfarm_model_input_memory(crossfarm_model *model, size_t index) {
  const crossfarm_model_tables *tables = model->tables;
  return index < tables->input_count ? model->tensors[tables->inputs[index].tensor].data : NULL;
}

void *crossfarm_model_output_memory(crossfarm_model *model, size_t index) {
  const crossfarm_model_tables *tables = model->tables;
  return index < tables->output_count ? model->tensors[tables->outputs[index].tensor].data : NULL;
}

size_t crossfarm_model_arena_bytes(const crossfarm_model *model) { return (size_t)model->tables->arena_bytes; }

size_t crossfarm_model_weights_bytes(const crossfarm_model *model) { return (size_t)model->tables->weights_bytes; }

size_t crossfarm_model_workspace_peak_bytes(const crossfarm_model *model) {
  return model->workspace.peak_bytes + crossfarm_pool_workspace_peak_bytes(model->pool);
}

const char *crossfarm_model_name(void) { return crossfarm_tables.model; }

const char *crossfarm_model_target(void) { return crossfarm_tables.target; }

const char *crossfarm_model_identity(void) { return crossfarm_tables.identity; }
