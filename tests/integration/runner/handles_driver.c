/* Several threads, each with a handle of its own that has threads of its own, all at once.
 * Arguments: weights file, handles, threads of each handle, runs. Prints the number of right answers. */
#define _GNU_SOURCE
#include <math.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "model.h"

enum { COUNT = 16 };

static const char *weights_path;
static unsigned threads_of_each;
static unsigned runs;
static atomic_uint right;

static int is_right(const float *values, const float *weights, const float *share) {
  float squares[COUNT], sum = 0, largest = 0;
  for (int i = 0; i < COUNT; ++i) {
    squares[i] = values[i] * weights[i] * values[i] * weights[i];
    sum += squares[i];
  }
  for (int i = 0; i < COUNT; ++i) largest = fmaxf(largest, fabsf(share[i] - squares[i] / sum));
  return largest < 1e-6f;
}

/* Failures between good runs: each must be told on its own thread, with its own reason, and harm no run after it. */
static const struct {
  int32_t command; /* see obey() of sample_model.c */
  const char *reason;
} orders[] = {
    {0, NULL},
    {1, "obey was told"},
    {2, "failed without a reason"}, /* and not with the reason of the run before */
    {3, "of a task"},
    {5, "workspaces in use at once"}, /* leaves all of them taken */
};

static int run_once(crossfarm_model *model, unsigned run) {
  float values[COUNT], share[COUNT] = {0}, weights[COUNT] = {0};
  int32_t echo = -1;
  const unsigned order = run % (sizeof orders / sizeof *orders);
  for (int i = 0; i < COUNT; ++i) values[i] = (float)((int)run + i % 7 + 1);
  const void *inputs[] = {values, &orders[order].command};
  void *outputs[] = {share, &echo, weights};
  const crossfarm_status status = crossfarm_model_run(model, inputs, outputs);
  if (orders[order].reason == NULL) return status == CROSSFARM_GOOD && echo == 0 && is_right(values, weights, share);
  return status == CROSSFARM_MODEL_FAILED && strstr(crossfarm_model_error_text(), orders[order].reason) != NULL &&
         echo == -1;
}

static void *work(void *argument) {
  (void)argument;
  const crossfarm_model_options options = {.threads = threads_of_each};
  crossfarm_model *model;
  if (crossfarm_model_open(weights_path, &options, &model) != CROSSFARM_GOOD) {
    fprintf(stderr, "%s\n", crossfarm_model_error_text());
    return NULL;
  }
  for (unsigned run = 0; run < runs; ++run) {
    if (run_once(model, run)) atomic_fetch_add(&right, 1);
  }
  crossfarm_model_close(model);
  return NULL;
}

int main(int count, char **arguments) {
  pthread_t threads[16];
  if (count != 5) return 2;
  weights_path = arguments[1];
  const unsigned handles = (unsigned)strtoul(arguments[2], NULL, 10);
  threads_of_each = (unsigned)strtoul(arguments[3], NULL, 10);
  runs = (unsigned)strtoul(arguments[4], NULL, 10);
  for (unsigned i = 0; i < handles; ++i) {
    if (pthread_create(&threads[i], NULL, work, NULL) != 0) return 3;
  }
  for (unsigned i = 0; i < handles; ++i) pthread_join(threads[i], NULL);
  printf("%u\n", atomic_load(&right));
  return 0;
}
