/* Runs the cases of a bundle, and times case 0. */
#ifndef CROSSFARM_MEASURE_H
#define CROSSFARM_MEASURE_H

#include <stdint.h>

#include "bundle.h"
#include "model.h"
#include "options.h"

typedef struct {
  uint64_t cases;
  uint64_t load_ns;   /* opening the model: mapping weights, arena, threads */
  uint64_t verify_ns; /* hashing the bundle's files; 0 when that was not asked for */
  uint64_t *latency_ns; /* `repeat` samples, in the order of the runs */
  uint64_t *call_ns;    /* with --profile: one row for each of `repeat` runs, with the time of every call; else NULL */
} crossfarm_measurement;

/* Fills `measurement`, and writes the outputs when the options ask for it. Give back with crossfarm_measurement_free,
 * also after a failure. */
crossfarm_status crossfarm_measure(const crossfarm_bundle *bundle, crossfarm_model *model,
                                   const crossfarm_options *options, crossfarm_measurement *measurement);
void crossfarm_measurement_free(crossfarm_measurement *measurement);

#endif
