/* The program of a bundle: checks the bundle, runs its cases, times them, and ends with an exit code that says whose
 * fault it was when something went wrong. */
#define _GNU_SOURCE
#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "bundle.h"
#include "measure.h"
#include "options.h"
#include "result.h"
#include "runtime.h"

/* ---- signals ---- */

static void say_and_end(const char *text, int code) {
  const ssize_t ignored = write(STDERR_FILENO, text, strlen(text));
  (void)ignored;
  _exit(code);
}

/* Compiled code can fail in ways that only a signal tells. Only what is safe in a signal handler may be called here. */
static void on_fatal_signal(int number) {
  switch (number) {
    case SIGILL:
      say_and_end("program: illegal instruction; the target's cpu is not this machine's\n", CROSSFARM_MODEL_FAILED);
      break;
    case SIGBUS:
      say_and_end("program: a file could not be read while it was in use; it changed, or the disk failed\n",
                  CROSSFARM_MACHINE_FAILED);
      break;
    case SIGFPE:
      say_and_end("program: the model's code divided by zero\n", CROSSFARM_MODEL_FAILED);
      break;
    default:
      say_and_end("program: the model's code reached past its memory\n", CROSSFARM_MODEL_FAILED);
  }
}

static void catch_signals(void) {
  /* A stack of its own, so that running out of stack can still be reported. */
  static char stack[64 * 1024];
  const stack_t alternative = {.ss_sp = stack, .ss_size = sizeof stack};
  (void)sigaltstack(&alternative, NULL);
  struct sigaction action = {.sa_handler = on_fatal_signal, .sa_flags = SA_ONSTACK};
  (void)sigemptyset(&action.sa_mask);
  static const int fatal[] = {SIGILL, SIGBUS, SIGFPE, SIGSEGV};
  for (size_t i = 0; i < sizeof fatal / sizeof *fatal; ++i) (void)sigaction(fatal[i], &action, NULL);
  /* A closed pipe and a full quota come back as errors of the write instead. */
  (void)signal(SIGPIPE, SIG_IGN);
  (void)signal(SIGXFSZ, SIG_IGN);
}

/* ---- the work ---- */

static crossfarm_status settle(const crossfarm_options *options) {
  if (options->processor_count == 0) return CROSSFARM_GOOD;
  cpu_set_t processors;
  CPU_ZERO(&processors);
  if (options->processors[0] < CPU_SETSIZE) CPU_SET(options->processors[0], &processors);
  if (sched_setaffinity(0, sizeof processors, &processors) == 0) return CROSSFARM_GOOD;
  return crossfarm_fail(CROSSFARM_WRONG_USE, "--affinity: processor %u cannot be used: %s", options->processors[0],
                        strerror(errno));
}

static crossfarm_status open_model(const crossfarm_bundle *bundle, const crossfarm_options *options,
                                   crossfarm_measurement *measurement, crossfarm_model **model) {
  const crossfarm_model_options how = {
      .threads = options->threads, .processor_count = options->processor_count, .processors = options->processors};
  const uint64_t start = crossfarm_clock();
  const crossfarm_status status = crossfarm_model_open(bundle->weights_path, &how, model);
  measurement->load_ns = crossfarm_clock() - start;
  return status;
}

static crossfarm_status run_bundle(const crossfarm_bundle *bundle, const crossfarm_options *options) {
  crossfarm_measurement measurement = {0};
  crossfarm_model *model = NULL;
  crossfarm_status status = CROSSFARM_GOOD;
  if (options->verify) {
    const uint64_t start = crossfarm_clock();
    status = crossfarm_bundle_verify(bundle);
    measurement.verify_ns = crossfarm_clock() - start;
  }
  if (status == CROSSFARM_GOOD) status = settle(options);
  if (status == CROSSFARM_GOOD) status = open_model(bundle, options, &measurement, &model);
  if (status == CROSSFARM_GOOD) status = crossfarm_measure(bundle, model, options, &measurement);
  if (status == CROSSFARM_GOOD) status = crossfarm_result_write(bundle, model, options, &measurement);
  crossfarm_measurement_free(&measurement);
  crossfarm_model_close(model);
  return status;
}

static crossfarm_status print(const char *text) {
  if (fputs(text, stdout) >= 0 && fflush(stdout) == 0) return CROSSFARM_GOOD;
  return crossfarm_fail(CROSSFARM_MACHINE_FAILED, "standard output: cannot be written: %s", strerror(errno));
}

static crossfarm_status print_version(void) {
  char text[512];
  (void)snprintf(text, sizeof text, "%s for %s, identity %s\n", crossfarm_model_name(), crossfarm_model_target(),
                 crossfarm_model_identity());
  return print(text);
}

static crossfarm_status act(int count, char **arguments) {
  crossfarm_options options;
  crossfarm_status status = crossfarm_options_read(count, arguments, &options);
  if (status != CROSSFARM_GOOD) return status;
  if (options.action == CROSSFARM_ACTION_HELP) return print(crossfarm_help);
  if (options.action == CROSSFARM_ACTION_VERSION) return print_version();
  crossfarm_bundle bundle;
  status = crossfarm_bundle_open(options.bundle, &crossfarm_tables, &bundle);
  if (status != CROSSFARM_GOOD) return status;
  status = run_bundle(&bundle, &options);
  crossfarm_bundle_close(&bundle);
  return status;
}

int main(int count, char **arguments) {
  catch_signals();
  const crossfarm_status status = act(count, arguments);
  if (status != CROSSFARM_GOOD) (void)fprintf(stderr, "program: %s\n", crossfarm_model_error_text());
  return (int)status;
}
