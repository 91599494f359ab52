/* result.json: what a run of the program found. */
#ifndef CROSSFARM_RESULT_H
#define CROSSFARM_RESULT_H

#include "bundle.h"
#include "measure.h"
#include "model.h"
#include "options.h"

/* Writes to the file of the options, all of it or nothing, or to standard output; and the times of all calls to the file
 * of --profile. */
crossfarm_status crossfarm_result_write(const crossfarm_bundle *bundle, const crossfarm_model *model,
                                        const crossfarm_options *options, const crossfarm_measurement *measurement);

#endif
