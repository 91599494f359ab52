/* What result.json says, and the times of all calls. */
#define _GNU_SOURCE
#define _FILE_OFFSET_BITS 64
#include "result.h"

#include <inttypes.h>
#include <stdio.h>
#include <sys/resource.h>

#include "document.h"
#include "runtime.h"

/* The most memory that this program has held. Not ru_maxrss if it can be helped: that one is inherited through exec,
 * so that a program started by a large process would report the size of its parent. */
static uint64_t peak_resident_bytes(void) {
  unsigned long kilobytes = 0;
  FILE *status = fopen("/proc/self/status", "re");
  if (status != NULL) {
    char line[256];
    while (fgets(line, sizeof line, status) != NULL && sscanf(line, "VmHWM: %lu kB", &kilobytes) != 1) {
    }
    (void)fclose(status);
  }
  if (kilobytes == 0) {
    struct rusage usage;
    if (getrusage(RUSAGE_SELF, &usage) == 0) kilobytes = (unsigned long)usage.ru_maxrss;
  }
  return (uint64_t)kilobytes * 1024;
}

static void put_outputs(FILE *file, const crossfarm_model *model, const crossfarm_options *options,
                        const crossfarm_measurement *measurement) {
  const size_t count = options->outputs != NULL ? crossfarm_model_output_count(model) : 0;
  (void)fputs("\"outputs\":[", file);
  for (size_t i = 0; i < count; ++i) {
    const crossfarm_port *port = crossfarm_model_output(model, i);
    (void)fputs(i > 0 ? ",{" : "{", file);
    crossfarm_put_named_text(file, "name", port->name);
    (void)fprintf(file, "\"file\":\"%zu.bin\",\"bytes\":%" PRIu64 "}", i, measurement->cases * port->bytes);
  }
  (void)fputc(']', file);
}

typedef struct {
  const crossfarm_bundle *bundle;
  const crossfarm_model *model;
  const crossfarm_options *options;
  const crossfarm_measurement *measurement;
} run;

static void put_names(FILE *file) {
  crossfarm_put_number(file, "format", 1);
  crossfarm_put_named_text(file, "model", crossfarm_model_name());
  crossfarm_put_named_text(file, "target", crossfarm_model_target());
  crossfarm_put_named_text(file, "identity", crossfarm_model_identity());
}

static void put_samples(FILE *file, const uint64_t *samples, uint32_t count, size_t stride) {
  for (uint32_t i = 0; i < count; ++i) (void)fprintf(file, i > 0 ? ",%" PRIu64 : "%" PRIu64, samples[i * stride]);
}

static void put_result(FILE *file, const void *content) {
  const run *done = content;
  const crossfarm_bundle *bundle = done->bundle;
  const crossfarm_model *model = done->model;
  const crossfarm_options *options = done->options;
  const crossfarm_measurement *measurement = done->measurement;
  (void)fputc('{', file);
  put_names(file);
  crossfarm_put_number(file, "threads", options->threads);
  crossfarm_put_number(file, "cases", measurement->cases);
  crossfarm_put_number(file, "warmup", options->warmup);
  crossfarm_put_number(file, "load_ns", measurement->load_ns);
  crossfarm_put_number(file, "verify_ns", measurement->verify_ns);
  (void)fputs("\"latency_ns\":[", file);
  put_samples(file, measurement->latency_ns, options->repeat, 1);
  (void)fputs("],", file);
  crossfarm_put_number(file, "arena_bytes", crossfarm_model_arena_bytes(model));
  crossfarm_put_number(file, "weights_bytes", crossfarm_model_weights_bytes(model));
  crossfarm_put_number(file, "program_bytes", bundle->program_bytes);
  crossfarm_put_number(file, "peak_rss_bytes", peak_resident_bytes());
  crossfarm_put_number(file, "workspace_peak_bytes", crossfarm_model_workspace_peak_bytes(model));
  put_outputs(file, model, options, measurement);
  (void)fputs("}\n", file);
}

static void put_profile(FILE *file, const void *content) {
  const run *done = content;
  const uint32_t count = crossfarm_tables.call_count;
  (void)fputc('{', file);
  put_names(file);
  crossfarm_put_number(file, "threads", done->options->threads);
  (void)fputs("\"calls\":[", file);
  for (uint32_t i = 0; i < count; ++i) {
    (void)fputs(i > 0 ? ",\n{" : "\n{", file);
    crossfarm_put_named_text(file, "name", crossfarm_tables.calls[i].name);
    (void)fputs("\"ns\":[", file);
    put_samples(file, done->measurement->call_ns + i, done->options->repeat, count);
    (void)fputs("]}", file);
  }
  (void)fputs("]}\n", file);
}

crossfarm_status crossfarm_result_write(const crossfarm_bundle *bundle, const crossfarm_model *model,
                                        const crossfarm_options *options, const crossfarm_measurement *measurement) {
  const run done = {.bundle = bundle, .model = model, .options = options, .measurement = measurement};
  const crossfarm_status status = crossfarm_document_write(options->result, put_result, &done);
  if (status != CROSSFARM_GOOD || options->profile == NULL) return status;
  return crossfarm_document_write(options->profile, put_profile, &done);
}
