/* Runs every case once and keeps its outputs, then warms up and times case 0. Cases are read one at a time, into the
 * model's own memory, so that the memory in use is the model's and not the data set's. */
#define _GNU_SOURCE
#define _FILE_OFFSET_BITS 64
#include "measure.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "runtime.h"

/* One input or output of the model: its place in the model, and the file that it comes from or goes to. */
typedef struct {
  void *memory;
  size_t bytes;
  int input;
  FILE *output;
  void *carried; /* of an input that a sequence feeds back: its value for the next case */
} stream;

typedef struct {
  const crossfarm_bundle *bundle;
  crossfarm_model *model;
  size_t input_count;
  size_t output_count;
  stream *inputs;
  stream *outputs;
  const void **input_memory; /* as crossfarm_model_run takes them */
  void **output_memory;
} session;

static crossfarm_status cannot_write(const char *folder, size_t index) {
  return crossfarm_fail(CROSSFARM_MACHINE_FAILED, "%s/%zu.bin: cannot be written: %s", folder, index, strerror(errno));
}

/* ---- session ---- */

static crossfarm_status allocate(session *work) {
  /* One more than needed: calloc of nothing may return NULL. */
  work->inputs = calloc(work->input_count + 1, sizeof *work->inputs);
  work->outputs = calloc(work->output_count + 1, sizeof *work->outputs);
  work->input_memory = calloc(work->input_count + 1, sizeof *work->input_memory);
  work->output_memory = calloc(work->output_count + 1, sizeof *work->output_memory);
  bool good = work->inputs != NULL && work->outputs != NULL;
  good = good && work->input_memory != NULL && work->output_memory != NULL;
  for (size_t i = 0; good && i < work->input_count; ++i) work->inputs[i].input = -1;
  for (size_t i = 0; good && i < work->input_count; ++i) {
    work->inputs[i].bytes = crossfarm_model_input(work->model, i)->bytes;
    work->input_memory[i] = work->inputs[i].memory = crossfarm_model_input_memory(work->model, i);
  }
  for (size_t i = 0; good && i < work->input_count; ++i) {
    if (work->bundle->sequence_count == 0 || work->bundle->carried_from[i] < 0) continue;
    work->inputs[i].carried = malloc(work->inputs[i].bytes + 1);
    good = work->inputs[i].carried != NULL;
  }
  for (size_t i = 0; good && i < work->output_count; ++i) {
    work->outputs[i].bytes = crossfarm_model_output(work->model, i)->bytes;
    work->output_memory[i] = work->outputs[i].memory = crossfarm_model_output_memory(work->model, i);
  }
  return good ? CROSSFARM_GOOD : crossfarm_fail(CROSSFARM_MACHINE_FAILED, "out of memory: inputs and outputs");
}

static crossfarm_status open_files(session *work, const char *folder) {
  for (size_t i = 0; i < work->input_count; ++i) {
    const crossfarm_status status =
        crossfarm_bundle_open_file(work->bundle, work->bundle->inputs[i]->path, &work->inputs[i].input);
    if (status != CROSSFARM_GOOD) return status;
  }
  if (folder == NULL) return CROSSFARM_GOOD;
  if (mkdir(folder, 0777) != 0 && errno != EEXIST)
    return crossfarm_fail(CROSSFARM_MACHINE_FAILED, "%s: cannot be made: %s", folder, strerror(errno));
  const size_t size = strlen(folder) + 32;
  char *path = malloc(size);
  if (path == NULL) return crossfarm_fail(CROSSFARM_MACHINE_FAILED, "out of memory: a path");
  crossfarm_status status = CROSSFARM_GOOD;
  for (size_t i = 0; i < work->output_count && status == CROSSFARM_GOOD; ++i) {
    (void)snprintf(path, size, "%s/%zu.bin", folder, i);
    work->outputs[i].output = fopen(path, "wbe");
    if (work->outputs[i].output == NULL) status = cannot_write(folder, i);
  }
  free(path);
  return status;
}

static crossfarm_status close_outputs(session *work, const char *folder) {
  crossfarm_status status = CROSSFARM_GOOD;
  for (size_t i = 0; i < work->output_count; ++i) {
    FILE *file = work->outputs[i].output;
    work->outputs[i].output = NULL;
    if (file != NULL && fclose(file) != 0) status = cannot_write(folder, i);
  }
  return status;
}

static void close_session(session *work) {
  for (size_t i = 0; work->inputs != NULL && i < work->input_count; ++i) {
    if (work->inputs[i].input >= 0) (void)close(work->inputs[i].input);
    free(work->inputs[i].carried);
  }
  for (size_t i = 0; work->outputs != NULL && i < work->output_count; ++i) {
    if (work->outputs[i].output != NULL) (void)fclose(work->outputs[i].output);
  }
  free(work->inputs);
  free(work->outputs);
  free((void *)work->input_memory);
  free((void *)work->output_memory);
}

/* ---- runs ---- */

static crossfarm_status read_case(const session *work, uint64_t index) {
  for (size_t i = 0; i < work->input_count; ++i) {
    const stream *input = &work->inputs[i];
    const crossfarm_status status = crossfarm_read_exactly(input->input, work->bundle->inputs[i]->path, input->memory,
                                                           input->bytes, index * input->bytes);
    if (status != CROSSFARM_GOOD) return status;
  }
  return CROSSFARM_GOOD;
}

static crossfarm_status run(const session *work) {
  return crossfarm_model_run(work->model, work->input_memory, work->output_memory);
}

/* A run overwrites what it was given, so every run reads its case anew. */
static crossfarm_status run_case(const session *work, uint64_t index) {
  const crossfarm_status status = read_case(work, index);
  return status == CROSSFARM_GOOD ? run(work) : status;
}

/* Whether a case takes outputs of the one before it. */
static bool continues(const crossfarm_bundle *bundle, uint64_t index) {
  for (size_t i = 0; i < bundle->sequence_count; ++i) {
    const crossfarm_bundle_sequence *sequence = &bundle->sequences[i];
    if (index > sequence->first && index - sequence->first < sequence->cases) return true;
  }
  return false;
}

static void put_carried(const session *work) {
  for (size_t i = 0; i < work->input_count; ++i) {
    const stream *input = &work->inputs[i];
    if (input->carried != NULL) memcpy(input->memory, input->carried, input->bytes);
  }
}

/* Filling an input may overwrite outputs, which share its memory; so what is carried is taken out before. */
static void take_carried(const session *work) {
  for (size_t i = 0; i < work->input_count; ++i) {
    const stream *input = &work->inputs[i];
    if (input->carried != NULL)
      memcpy(input->carried, work->outputs[work->bundle->carried_from[i]].memory, input->bytes);
  }
}

static crossfarm_status run_cases(const session *work, uint64_t cases, const char *folder) {
  for (uint64_t index = 0; index < cases; ++index) {
    crossfarm_status status = read_case(work, index);
    if (status == CROSSFARM_GOOD && continues(work->bundle, index)) put_carried(work);
    if (status == CROSSFARM_GOOD) status = run(work);
    if (status != CROSSFARM_GOOD) return status;
    take_carried(work);
    for (size_t i = 0; i < work->output_count && folder != NULL; ++i) {
      const stream *output = &work->outputs[i];
      if (fwrite(output->memory, 1, output->bytes, output->output) != output->bytes) return cannot_write(folder, i);
    }
  }
  return CROSSFARM_GOOD;
}

/* Profiled runs take turns with plain ones, so that what else the machine does hits both. The clock runs while the model
 * does, not while a case is read: a caller that has its data in the model's memory needs no copy. */
static crossfarm_status time_runs(const session *work, const crossfarm_options *options,
                                  const crossfarm_measurement *measurement) {
  const size_t calls = crossfarm_tables.call_count;
  crossfarm_status status = CROSSFARM_GOOD;
  for (uint32_t i = 0; i < options->warmup && status == CROSSFARM_GOOD; ++i) status = run_case(work, 0);
  for (uint32_t i = 0; i < options->repeat && status == CROSSFARM_GOOD; ++i) {
    status = read_case(work, 0);
    if (status != CROSSFARM_GOOD) return status;
    const uint64_t start = crossfarm_clock();
    status = run(work);
    measurement->latency_ns[i] = crossfarm_clock() - start;
    if (measurement->call_ns == NULL || status != CROSSFARM_GOOD) continue;
    status = read_case(work, 0);
    if (status == CROSSFARM_GOOD)
      status = crossfarm_run_profiled(work->model, work->input_memory, work->output_memory,
                                            measurement->call_ns + i * calls);
  }
  return status;
}

static crossfarm_status make_samples(uint64_t count, uint64_t **samples) {
  const uint64_t bytes = (count + 1) * sizeof **samples;
  *samples = bytes <= SIZE_MAX ? malloc((size_t)bytes) : NULL;
  if (*samples == NULL)
    return crossfarm_fail(CROSSFARM_MACHINE_FAILED, "out of memory: %llu samples", (unsigned long long)count);
  /* Cleared, not only reserved: the first timed runs must not pay for the pages of their own samples. */
  memset(*samples, 0, (size_t)bytes);
  return CROSSFARM_GOOD;
}

crossfarm_status crossfarm_measure(const crossfarm_bundle *bundle, crossfarm_model *model,
                                   const crossfarm_options *options, crossfarm_measurement *measurement) {
  if (options->cases > bundle->cases)
    return crossfarm_fail(CROSSFARM_WRONG_USE, "--cases %u: the bundle has %llu", options->cases,
                          (unsigned long long)bundle->cases);
  measurement->cases = options->cases > 0 ? options->cases : bundle->cases;
  session work = {.bundle = bundle,
                  .model = model,
                  .input_count = crossfarm_model_input_count(model),
                  .output_count = crossfarm_model_output_count(model)};
  crossfarm_status status = allocate(&work);
  if (status == CROSSFARM_GOOD) status = make_samples(options->repeat, &measurement->latency_ns);
  if (status == CROSSFARM_GOOD && options->profile != NULL)
    status = make_samples((uint64_t)options->repeat * crossfarm_tables.call_count, &measurement->call_ns);
  if (status == CROSSFARM_GOOD) status = open_files(&work, options->outputs);
  if (status == CROSSFARM_GOOD) status = run_cases(&work, measurement->cases, options->outputs);
  if (status == CROSSFARM_GOOD) status = close_outputs(&work, options->outputs);
  if (status == CROSSFARM_GOOD) status = time_runs(&work, options, measurement);
  close_session(&work);
  return status;
}

void crossfarm_measurement_free(crossfarm_measurement *measurement) {
  free(measurement->latency_ns);
  free(measurement->call_ns);
  measurement->latency_ns = NULL;
  measurement->call_ns = NULL;
}
