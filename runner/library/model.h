/* A compiled model: open it, ask what goes in and comes out, run it, close it.
 *
 * This is the whole public interface of the library `libMODEL.a` or `libMODEL.so`. It needs a C library with POSIX
 * threads and nothing else. Works from C99 and from C++.
 *
 *     crossfarm_model *model;
 *     if (crossfarm_model_open("weights.bin", NULL, &model) != CROSSFARM_GOOD)
 *       return fail(crossfarm_model_error_text());
 *     const void *inputs[] = {image};
 *     void *outputs[] = {scores};
 *     if (crossfarm_model_run(model, inputs, outputs) != CROSSFARM_GOOD)
 *       return fail(crossfarm_model_error_text());
 *     crossfarm_model_close(model);
 *
 * Threads: a handle serves one thread at a time; several handles may be open and run in several threads at once. A
 * handle with more than one thread keeps its own workers, which sleep between runs.
 * Several models in one process: load each `.so` with dlopen(path, RTLD_NOW | RTLD_LOCAL) and look the functions up.
 */
#ifndef CROSSFARM_MODEL_H
#define CROSSFARM_MODEL_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define CROSSFARM_API __attribute__((visibility("default")))

/* What a function came to. The program ends with the same numbers as its exit codes. */
typedef enum {
  CROSSFARM_GOOD = 0,
  CROSSFARM_WRONG_USE = 2,      /* an argument is out of its range */
  CROSSFARM_BAD_BUNDLE = 3,     /* a file is missing, truncated, corrupt, or was made for another model */
  CROSSFARM_MODEL_FAILED = 4,   /* the model's code reported an error */
  CROSSFARM_MACHINE_FAILED = 5, /* no memory, no thread, no disk */
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

/* An input or output: dense, C order, the machine's byte order. Lives as long as the handle. */
typedef struct {
  const char *name;
  const int64_t *shape; /* `rank` extents; NULL for a scalar */
  size_t bytes;
  int32_t rank;
  crossfarm_type type;
} crossfarm_port;

/* How a handle works. All zero, or no options at all, means one thread that runs wherever the system puts it. */
typedef struct {
  unsigned threads;           /* 1 to 256, the calling thread among them; 0 stands for 1 */
  unsigned processor_count;   /* entries of `processors`; 0: the system decides */
  const unsigned *processors; /* thread k of the handle runs on processors[k % processor_count]; thread 0 is the
                                 caller's own and is never moved */
} crossfarm_model_options;

typedef struct crossfarm_model crossfarm_model;

/* Open the model with its weights file, which is memory-mapped and must not change while the handle is open.
 * `options` may be NULL. On failure `*model` is NULL. */
CROSSFARM_API crossfarm_status crossfarm_model_open(const char *weights_path, const crossfarm_model_options *options,
                                                    crossfarm_model **model);

/* Give back everything that the handle holds. NULL is fine. */
CROSSFARM_API void crossfarm_model_close(crossfarm_model *model);

/* Inputs and outputs by position; NULL past the end. */
CROSSFARM_API size_t crossfarm_model_input_count(const crossfarm_model *model);
CROSSFARM_API size_t crossfarm_model_output_count(const crossfarm_model *model);
CROSSFARM_API const crossfarm_port *crossfarm_model_input(const crossfarm_model *model, size_t index);
CROSSFARM_API const crossfarm_port *crossfarm_model_output(const crossfarm_model *model, size_t index);

/* Where the model itself keeps an input or an output; NULL past the end. Passed to crossfarm_model_run in place of a
 * buffer of one's own, it saves memory and a copy. A run overwrites its inputs, so each needs to be filled again before
 * the next; filling one may overwrite the outputs of the run before. An output's memory is for reading alone. */
CROSSFARM_API void *crossfarm_model_input_memory(crossfarm_model *model, size_t index);
CROSSFARM_API void *crossfarm_model_output_memory(crossfarm_model *model, size_t index);

/* Run once. `inputs` and `outputs` hold one pointer per input and output, each to the `bytes` of its port; any
 * alignment will do. Outputs in memory of one's own are written only when the run is good. */
CROSSFARM_API crossfarm_status crossfarm_model_run(crossfarm_model *model, const void *const inputs[],
                                                   void *const outputs[]);

/* What went wrong in the last call that failed on this thread; one line, never NULL, valid until the next failure. */
CROSSFARM_API const char *crossfarm_model_error_text(void);

/* Bytes of the arena (inputs, outputs and everything between them), of the weights, and the most that the code's
 * temporary workspaces have taken so far, over all threads of the handle. */
CROSSFARM_API size_t crossfarm_model_arena_bytes(const crossfarm_model *model);
CROSSFARM_API size_t crossfarm_model_weights_bytes(const crossfarm_model *model);
CROSSFARM_API size_t crossfarm_model_workspace_peak_bytes(const crossfarm_model *model);

/* The model's name, the target that it was compiled for, and the 64 hex digits that tie code and weights together. */
CROSSFARM_API const char *crossfarm_model_name(void);
CROSSFARM_API const char *crossfarm_model_target(void);
CROSSFARM_API const char *crossfarm_model_identity(void);

/* "float32", "bool"; "unknown" for a value that is none of crossfarm_type. */
CROSSFARM_API const char *crossfarm_model_type_name(crossfarm_type type);

#ifdef __cplusplus
}
#endif

#endif
