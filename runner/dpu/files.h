/* What the functional model and the core's testbench share: the files of a run.
 *
 *     program COMMANDS CONSTANTS CASES INPUT... OUTPUT...
 *
 * An input file holds the tensors of all cases one behind the other, and so does an output file. */
#ifndef CROSSFARM_DPU_FILES_H
#define CROSSFARM_DPU_FILES_H

#include <stdio.h>

#include "program.h"

#ifdef __cplusplus
extern "C" {
#endif

enum { DPU_GOOD = 0, DPU_USAGE = 2, DPU_REFUSED = 3, DPU_FAILED = 5, DPU_MOST_FILES = 128 };

typedef struct {
    dpu_program program;
    int8_t *constants;
    uint32_t cases;
    FILE *files[DPU_MOST_FILES]; /* inputs, then outputs */
    int8_t *tensor;              /* of one port, the largest */
} dpu_run;

/* Read the command line and its files. Returns DPU_GOOD, or the exit code; what is wrong was said then. */
int dpu_open(dpu_run *run, int argc, char **argv);

/* Read a case's inputs into memory, and write its outputs. Returns DPU_GOOD, or the exit code. */
int dpu_read_case(dpu_run *run, int8_t *memory);
int dpu_write_case(dpu_run *run, const int8_t *memory);

/* Close everything. Returns DPU_GOOD, or the exit code when an output could not be written. */
int dpu_close(dpu_run *run);

#ifdef __cplusplus
}
#endif
#endif
