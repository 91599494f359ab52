/* Writes result.json. A regular file is written beside its place and renamed, so that nobody reads half of it. */
#define _GNU_SOURCE
#define _FILE_OFFSET_BITS 64
#include "result.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

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

static void put_text(FILE *file, const char *text) {
  (void)fputc('"', file);
  for (; *text != '\0'; ++text) {
    const unsigned char c = (unsigned char)*text;
    if (c < 0x20) {
      (void)fprintf(file, "\\u%04x", c);
    } else {
      if (c == '"' || c == '\\') (void)fputc('\\', file);
      (void)fputc(c, file);
    }
  }
  (void)fputc('"', file);
}

static void put_named_text(FILE *file, const char *name, const char *text) {
  (void)fprintf(file, "\"%s\":", name);
  put_text(file, text);
  (void)fputc(',', file);
}

static void put_number(FILE *file, const char *name, uint64_t number) {
  (void)fprintf(file, "\"%s\":%" PRIu64 ",", name, number);
}

static void put_outputs(FILE *file, const crossfarm_model *model, const crossfarm_options *options,
                        const crossfarm_measurement *measurement) {
  const size_t count = options->outputs != NULL ? crossfarm_model_output_count(model) : 0;
  (void)fputs("\"outputs\":[", file);
  for (size_t i = 0; i < count; ++i) {
    const crossfarm_port *port = crossfarm_model_output(model, i);
    (void)fputs(i > 0 ? ",{" : "{", file);
    put_named_text(file, "name", port->name);
    (void)fprintf(file, "\"file\":\"%zu.bin\",\"bytes\":%" PRIu64 "}", i, measurement->cases * port->bytes);
  }
  (void)fputc(']', file);
}

static void put_result(FILE *file, const crossfarm_bundle *bundle, const crossfarm_model *model,
                       const crossfarm_options *options, const crossfarm_measurement *measurement) {
  (void)fputc('{', file);
  put_number(file, "format", 1);
  put_named_text(file, "model", crossfarm_model_name());
  put_named_text(file, "target", crossfarm_model_target());
  put_named_text(file, "identity", crossfarm_model_identity());
  put_number(file, "threads", options->threads);
  put_number(file, "cases", measurement->cases);
  put_number(file, "warmup", options->warmup);
  put_number(file, "load_ns", measurement->load_ns);
  put_number(file, "verify_ns", measurement->verify_ns);
  (void)fputs("\"latency_ns\":[", file);
  for (uint32_t i = 0; i < options->repeat; ++i)
    (void)fprintf(file, i > 0 ? ",%" PRIu64 : "%" PRIu64, measurement->latency_ns[i]);
  (void)fputs("],", file);
  put_number(file, "arena_bytes", crossfarm_model_arena_bytes(model));
  put_number(file, "weights_bytes", crossfarm_model_weights_bytes(model));
  put_number(file, "program_bytes", bundle->program_bytes);
  put_number(file, "peak_rss_bytes", peak_resident_bytes());
  put_number(file, "workspace_peak_bytes", crossfarm_model_workspace_peak_bytes(model));
  put_outputs(file, model, options, measurement);
  (void)fputs("}\n", file);
}

static crossfarm_status cannot_write(const char *path, int fault) {
  return crossfarm_fail(CROSSFARM_MACHINE_FAILED, "%s: cannot be written: %s", path, strerror(fault));
}

/* True when all that was printed has really been taken. */
static bool is_complete(FILE *file) { return fflush(file) == 0 && ferror(file) == 0; }

crossfarm_status crossfarm_result_write(const crossfarm_bundle *bundle, const crossfarm_model *model,
                                        const crossfarm_options *options, const crossfarm_measurement *measurement) {
  if (options->result == NULL) {
    put_result(stdout, bundle, model, options, measurement);
    return is_complete(stdout) ? CROSSFARM_GOOD : cannot_write("standard output", errno);
  }
  /* A device or pipe is written as it is: renaming would put a file in its place. */
  struct stat about;
  const bool is_special = stat(options->result, &about) == 0 && !S_ISREG(about.st_mode);
  const size_t size = strlen(options->result) + sizeof ".part";
  char *path = malloc(size);
  if (path == NULL) return crossfarm_fail(CROSSFARM_MACHINE_FAILED, "out of memory: a path");
  (void)snprintf(path, size, "%s%s", options->result, is_special ? "" : ".part");
  int fault = 0;
  FILE *file = fopen(path, "we");
  if (file == NULL) {
    fault = errno;
  } else {
    put_result(file, bundle, model, options, measurement);
    if (!is_complete(file)) fault = errno;
    if (fclose(file) != 0 && fault == 0) fault = errno;
    if (fault == 0 && !is_special && rename(path, options->result) != 0) fault = errno;
    if (fault != 0 && !is_special) (void)unlink(path);
  }
  free(path);
  return fault == 0 ? CROSSFARM_GOOD : cannot_write(options->result, fault);
}
