/* The command line of the program. */
#ifndef CROSSFARM_OPTIONS_H
#define CROSSFARM_OPTIONS_H

#include <stdbool.h>
#include <stdint.h>

#include "runtime.h"

typedef enum {
  CROSSFARM_ACTION_RUN,
  CROSSFARM_ACTION_HELP,
  CROSSFARM_ACTION_VERSION,
} crossfarm_action;

typedef struct {
  crossfarm_action action;
  bool verify;
  unsigned threads;
  unsigned processor_count; /* 0: no affinity asked for */
  unsigned processors[CROSSFARM_MAX_THREADS];
  uint32_t warmup;
  uint32_t repeat;
  uint32_t cases;      /* 0: all of the bundle */
  const char *bundle;
  const char *outputs; /* folder, NULL: outputs are not written */
  const char *result;  /* file, NULL: standard output */
  const char *profile; /* file, NULL: calls are not timed one by one */
} crossfarm_options;

crossfarm_status crossfarm_options_read(int count, char **arguments, crossfarm_options *options);

extern const char crossfarm_help[];

#endif
