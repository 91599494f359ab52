/* A compiled model for a processor without an operating system: open it in memory of yours, run it.
 *
 * This is the whole public interface of the library `libMODEL.a`. It allocates nothing, opens no file and starts no thread;
 * weights are constants, which the linker puts where the program is. Of a C library it needs memcpy and memset alone.
 * Works from C99 and from C++.
 *
 *     static uint8_t arena[CROSSFARM_MODEL_ARENA_BYTES] __attribute__((aligned(CROSSFARM_MODEL_ALIGNMENT)));
 *     crossfarm_model *model;
 *     if (crossfarm_model_open(arena, sizeof arena, &model) != CROSSFARM_GOOD) return fail(crossfarm_model_error_text());
 *     fill(crossfarm_model_input_memory(model, 0));
 *     if (crossfarm_model_run(model, NULL, NULL) != CROSSFARM_GOOD) return fail(crossfarm_model_error_text());
 *     use(crossfarm_model_output_memory(model, 0));
 *
 * One run at a time in the whole firmware, and one model in a firmware. Interrupts may come while it runs; they must not
 * call it. The floating-point unit must be on.
 */
#ifndef CROSSFARM_MODEL_H
#define CROSSFARM_MODEL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "model_sizes.h"

#ifdef __cplusplus
extern "C" {
#endif

/* What the address of an arena must be a multiple of. */
#define CROSSFARM_MODEL_ALIGNMENT 64

/* What a function came to; the numbers are those of crossfarm's programs. */
typedef enum {
  CROSSFARM_GOOD = 0,
  CROSSFARM_WRONG_USE = 2,    /* an argument is out of its range */
  CROSSFARM_MODEL_FAILED = 4, /* the model's code reported an error */
} crossfarm_status;

/* The type of an element: DLPack's type code in the high byte, the bits in the low one. */
typedef enum {
  CROSSFARM_INT8 = 0x008,
  CROSSFARM_INT16 = 0x010,
  CROSSFARM_INT32 = 0x020,
  CROSSFARM_INT64 = 0x040,
  CROSSFARM_UINT8 = 0x108,
  CROSSFARM_UINT16 = 0x110,
  CROSSFARM_UINT32 = 0x120,
  CROSSFARM_UINT64 = 0x140,
  CROSSFARM_FLOAT16 = 0x210,
  CROSSFARM_FLOAT32 = 0x220,
  CROSSFARM_FLOAT64 = 0x240,
  CROSSFARM_BOOL = 0x608, /* one byte, 0 or 1 */
} crossfarm_type;

/* An input or output: dense, C order, little-endian. */
typedef struct {
  const char *name;
  const int64_t *shape; /* `rank` extents; NULL for a scalar */
  size_t bytes;
  int32_t rank;
  crossfarm_type type;
} crossfarm_port;

typedef struct crossfarm_model crossfarm_model;

/* Open the model in an arena of at least CROSSFARM_MODEL_ARENA_BYTES, which belongs to it until its last use;
 * there is nothing to close. On failure `*model` is NULL. */
crossfarm_status crossfarm_model_open(void *arena, size_t bytes, crossfarm_model **model);

/* Inputs and outputs by position; false past the end, and `*port` is not touched. */
size_t crossfarm_model_input_count(void);
size_t crossfarm_model_output_count(void);
bool crossfarm_model_input(size_t index, crossfarm_port *port);
bool crossfarm_model_output(size_t index, crossfarm_port *port);

/* Where the model keeps an input or an output; NULL past the end. A run overwrites its inputs, so each needs to be filled
 * again before the next; filling one may overwrite the outputs of the run before. */
void *crossfarm_model_input_memory(crossfarm_model *model, size_t index);
const void *crossfarm_model_output_memory(const crossfarm_model *model, size_t index);

/* Run once. `inputs` and `outputs` hold one pointer per input and output, each to the `bytes` of its port, of any
 * alignment. NULL, in place of a pointer or of them all, stands for the model's own memory and saves a copy. */
crossfarm_status crossfarm_model_run(crossfarm_model *model, const void *const inputs[], void *const outputs[]);

/* What went wrong in the last call that failed; one line, never NULL. */
const char *crossfarm_model_error_text(void);

/* The most that the code's temporary workspaces have taken so far, of CROSSFARM_MODEL_WORKSPACE_BYTES. */
size_t crossfarm_model_workspace_peak_bytes(const crossfarm_model *model);

/* The model's name, the target that it was compiled for, and the 64 hex digits that name this build of it. */
const char *crossfarm_model_name(void);
const char *crossfarm_model_target(void);
const char *crossfarm_model_identity(void);

#ifdef __cplusplus
}
#endif

#endif
