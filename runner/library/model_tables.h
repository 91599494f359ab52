/* What the generator writes and the runtime reads: a compiled model as plain constant tables.
 *
 * The generator (crossfarm/backends/tvm/tables.py) emits one C file that defines `crossfarm_tables`. The runtime
 * (runner/library/model.c) turns the tables into tensors and calls when a model is opened. Nothing here is part of the public
 * interface: users see model.h alone.
 */
#ifndef CROSSFARM_MODEL_TABLES_H
#define CROSSFARM_MODEL_TABLES_H

#include <stddef.h>
#include <stdint.h>

#include "tvm_abi.h"

/* Where the bytes of a tensor live. */
enum crossfarm_place {
  CROSSFARM_PLACE_ARENA = 0,   /* offset into the arena of the handle */
  CROSSFARM_PLACE_WEIGHTS = 1, /* offset into the memory-mapped weights file, past its header */
};

/* One tensor. Offsets are multiples of 64 bytes; shapes point into static arrays. */
typedef struct {
  const int64_t *shape; /* `rank` extents, NULL for a scalar */
  uint64_t offset;      /* bytes */
  uint64_t bytes;       /* size of the data */
  int32_t rank;
  uint8_t place;        /* enum crossfarm_place */
  uint8_t type_code;    /* DLDataTypeCode: 0 int, 1 uint, 2 float, 6 bool */
  uint8_t type_bits;
} crossfarm_table_tensor;

/* One call of a PrimFunc: its arguments are `count` indices into `tensors`, from `first` in `arguments`. */
typedef struct {
  crossfarm_packed_function function;
  const char *name;
  uint32_t first;
  uint32_t count;
} crossfarm_table_call;

/* A named input or output: its name and its tensor. */
typedef struct {
  const char *name;
  uint32_t tensor;
} crossfarm_table_port;

typedef struct {
  const char *model;            /* name of the model */
  const char *identity;         /* 64 hex digits: sha256 that ties program, weights and manifest together */
  const char *target;           /* name of the target */
  uint64_t weights_bytes;       /* size of the weights behind the file's 64-byte header */
  uint64_t arena_bytes;
  const crossfarm_table_tensor *tensors;
  const crossfarm_table_call *calls;
  const uint32_t *arguments;
  const crossfarm_table_port *inputs;
  const crossfarm_table_port *outputs;
  uint32_t tensor_count;
  uint32_t call_count;
  uint32_t argument_count;
  uint32_t input_count;
  uint32_t output_count;
} crossfarm_model_tables;

extern const crossfarm_model_tables crossfarm_tables;

/* The weights file: 64 bytes of header, then `weights_bytes` bytes. All integers little-endian. */
#define CROSSFARM_WEIGHTS_MAGIC "CFWEIGHT" /* 8 bytes, no terminator */
#define CROSSFARM_WEIGHTS_VERSION 1u       /* uint32 at offset 8; uint32 0 at offset 12 */
                                           /* uint64 weights_bytes at offset 16 */
                                           /* 32 raw bytes of the identity at offset 24; 8 zero bytes at offset 56 */
#define CROSSFARM_WEIGHTS_HEADER_BYTES 64u

#endif
