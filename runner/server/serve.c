/* The model as a server on a pipe, for languages that cannot load a library: a statically linked bundle has this program
 * in place of the shared library.
 *
 *     server WEIGHTS_FILE [THREADS]
 *
 * It answers with a status (uint32, as in model.h) at its start and after every request. After a good one follow the 64
 * digits of the identity at the start, or all outputs one behind the other; after a bad one the length of a message
 * (uint32) and the message. A request is all inputs one behind the other. Everything is in the machine's byte order.
 * The end of the standard input between two requests ends the program. */
#include <errno.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "model.h"

enum { IDENTITY_DIGITS = 64, MAXIMUM_THREADS = 256 };

typedef struct {
  size_t count;
  void **tensors;
  size_t *bytes;
} ports;

/* Returns how much was read; less than `size` only at the end of the input or after an error. */
static size_t read_fully(void *memory, size_t size) {
  size_t done = 0;
  while (done < size) {
    const ssize_t count = read(STDIN_FILENO, (uint8_t *)memory + done, size - done);
    if (count < 0 && errno == EINTR) continue;
    if (count <= 0) break;
    done += (size_t)count;
  }
  return done;
}

static int write_fully(const void *memory, size_t size) {
  for (size_t done = 0; done < size;) {
    const ssize_t count = write(STDOUT_FILENO, (const uint8_t *)memory + done, size - done);
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) return 0;
    done += (size_t)count;
  }
  return 1;
}

static int say_status(crossfarm_status status) {
  const uint32_t number = (uint32_t)status;
  return write_fully(&number, sizeof number);
}

static int say_failure(crossfarm_status status, const char *text) {
  const uint32_t length = (uint32_t)strlen(text);
  return say_status(status) && write_fully(&length, sizeof length) && write_fully(text, length);
}

static void ports_free(ports *all) {
  for (size_t i = 0; all->tensors != NULL && i < all->count; ++i) free(all->tensors[i]);
  free(all->tensors);
  free(all->bytes);
}

static int ports_make(ports *all, const crossfarm_model *model, size_t count,
                      const crossfarm_port *(*port)(const crossfarm_model *, size_t)) {
  *all = (ports){.count = count, .tensors = calloc(count + 1, sizeof(void *)), .bytes = calloc(count + 1, sizeof(size_t))};
  if (all->tensors == NULL || all->bytes == NULL) return 0;
  for (size_t i = 0; i < count; ++i) {
    all->bytes[i] = port(model, i)->bytes;
    all->tensors[i] = malloc(all->bytes[i] > 0 ? all->bytes[i] : 1);
    if (all->tensors[i] == NULL) return 0;
  }
  return 1;
}

/* Reads one request. Returns 1, 0 at the end of the input, -1 when it ends within a request. */
static int read_request(const ports *inputs) {
  int begun = 0;
  for (size_t i = 0; i < inputs->count; ++i) {
    const size_t count = read_fully(inputs->tensors[i], inputs->bytes[i]);
    if (count < inputs->bytes[i]) return begun || count > 0 ? -1 : 0;
    begun = 1;
  }
  return 1;
}

static int answer(crossfarm_model *model, const ports *inputs, const ports *outputs) {
  const crossfarm_status status =
      crossfarm_model_run(model, (const void *const *)inputs->tensors, (void *const *)outputs->tensors);
  if (status != CROSSFARM_GOOD) return say_failure(status, crossfarm_model_error_text());
  int good = say_status(status);
  for (size_t i = 0; good && i < outputs->count; ++i) good = write_fully(outputs->tensors[i], outputs->bytes[i]);
  return good;
}

static crossfarm_status serve(crossfarm_model *model, const ports *inputs, const ports *outputs) {
  if (!say_status(CROSSFARM_GOOD) || !write_fully(crossfarm_model_identity(), IDENTITY_DIGITS))
    return CROSSFARM_MACHINE_FAILED;
  for (;;) {
    const int found = read_request(inputs);
    if (found == 0) return CROSSFARM_GOOD;
    if (found < 0) return CROSSFARM_WRONG_USE;
    if (!answer(model, inputs, outputs)) return CROSSFARM_MACHINE_FAILED;
  }
}

static crossfarm_status open_and_serve(const char *weights, unsigned threads) {
  crossfarm_model *model;
  const crossfarm_model_options options = {.threads = threads};
  crossfarm_status status = crossfarm_model_open(weights, &options, &model);
  if (status != CROSSFARM_GOOD) {
    (void)say_failure(status, crossfarm_model_error_text());
    return status;
  }
  ports inputs = {0}, outputs = {0};
  if (ports_make(&inputs, model, crossfarm_model_input_count(model), crossfarm_model_input) &&
      ports_make(&outputs, model, crossfarm_model_output_count(model), crossfarm_model_output)) {
    status = serve(model, &inputs, &outputs);
  } else {
    status = CROSSFARM_MACHINE_FAILED;
    (void)say_failure(status, "out of memory: inputs and outputs");
  }
  ports_free(&inputs);
  ports_free(&outputs);
  crossfarm_model_close(model);
  return status;
}

int main(int count, char **arguments) {
  char *end = NULL;
  const unsigned long threads = count == 3 ? strtoul(arguments[2], &end, 10) : 1;
  if (count < 2 || count > 3 || (end != NULL && *end != '\0') || threads < 1 || threads > MAXIMUM_THREADS) {
    (void)fprintf(stderr, "usage: server WEIGHTS_FILE [THREADS]\n"
                          "Runs the model over standard input and output; the Python module of the bundle starts it.\n");
    return CROSSFARM_WRONG_USE;
  }
  (void)signal(SIGPIPE, SIG_IGN);
  return open_and_serve(arguments[1], (unsigned)threads);
}
