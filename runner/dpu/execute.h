/* The functional model: runs a command list, one command after the other, and knows nothing of time. */
#ifndef CROSSFARM_DPU_EXECUTE_H
#define CROSSFARM_DPU_EXECUTE_H

#include "program.h"

typedef struct {
    const dpu_program *program;
    int8_t *memory, *features, *weights;
    int16_t *kernels, *patches; /* weights of one command, and what some pixels read, in 16 bits */
    int32_t *sums;
} dpu_machine;

/* Make a machine for a program. `constants` holds constant_words words. Returns 0, or -1 when there is no memory. */
int dpu_machine_make(dpu_machine *machine, const dpu_program *program, const int8_t *constants);
void dpu_machine_free(dpu_machine *machine);

/* Run all commands. Inputs lie in memory before, and outputs after. */
void dpu_execute(dpu_machine *machine);

/* sum / 2**shift, to the nearest, ties to even. */
int64_t dpu_round_shift(int64_t sum, int32_t shift);

#endif
