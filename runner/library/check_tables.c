/* Checks the tables that the generator wrote, once, when a model is opened. */
#include <string.h>

#include "runtime.h"

enum { MAXIMUM_RANK = 32 };

bool crossfarm_identity_bytes(const char *identity, uint8_t bytes[32]) {
  if (identity == NULL || strlen(identity) != 64) return false;
  for (size_t i = 0; i < 64; ++i) {
    const char c = identity[i];
    uint8_t digit;
    if (c >= '0' && c <= '9') {
      digit = (uint8_t)(c - '0');
    } else if (c >= 'a' && c <= 'f') {
      digit = (uint8_t)(c - 'a' + 10);
    } else {
      return false;
    }
    bytes[i / 2] = (uint8_t)(i % 2 == 0 ? digit << 4 : bytes[i / 2] | digit);
  }
  return true;
}

const char *crossfarm_model_type_name(crossfarm_type type) {
  switch (type) {
    case CROSSFARM_INT8: return "int8";
    case CROSSFARM_INT16: return "int16";
    case CROSSFARM_INT32: return "int32";
    case CROSSFARM_INT64: return "int64";
    case CROSSFARM_UINT8: return "uint8";
    case CROSSFARM_UINT16: return "uint16";
    case CROSSFARM_UINT32: return "uint32";
    case CROSSFARM_UINT64: return "uint64";
    case CROSSFARM_FLOAT16: return "float16";
    case CROSSFARM_FLOAT32: return "float32";
    case CROSSFARM_FLOAT64: return "float64";
    case CROSSFARM_BOOL: return "bool";
  }
  return "unknown";
}

/* The size that shape and type ask for, or false when it overflows. */
static bool dense_bytes(const crossfarm_table_tensor *tensor, uint64_t *bytes) {
  uint64_t product = tensor->type_bits / 8u;
  for (int32_t axis = 0; axis < tensor->rank; ++axis) {
    const int64_t extent = tensor->shape[axis];
    if (extent < 0 || __builtin_mul_overflow(product, (uint64_t)extent, &product)) return false;
  }
  *bytes = product;
  return true;
}

static const char *fault_of_tensor(const crossfarm_model_tables *tables, const crossfarm_table_tensor *tensor) {
  const crossfarm_type type = (crossfarm_type)(tensor->type_code << 8 | tensor->type_bits);
  if (strcmp(crossfarm_model_type_name(type), "unknown") == 0) return "has an unknown type";
  if (tensor->rank < 0 || tensor->rank > MAXIMUM_RANK) return "has a rank out of range";
  if (tensor->rank > 0 && tensor->shape == NULL) return "has no shape";
  uint64_t bytes;
  if (!dense_bytes(tensor, &bytes) || bytes != tensor->bytes) return "has a size unlike its shape";
  if (tensor->place != CROSSFARM_PLACE_ARENA && tensor->place != CROSSFARM_PLACE_WEIGHTS) return "lies nowhere";
  if (tensor->offset % CROSSFARM_ALIGNMENT != 0) return "is not aligned";
  const uint64_t room = tensor->place == CROSSFARM_PLACE_ARENA ? tables->arena_bytes : tables->weights_bytes;
  if (tensor->offset > room || tensor->bytes > room - tensor->offset) return "reaches past its memory";
  return NULL;
}

static const char *fault_of_call(const crossfarm_model_tables *tables, const crossfarm_table_call *call) {
  if (call->function == NULL || call->name == NULL) return "has no function";
  if (call->first > tables->argument_count || call->count > tables->argument_count - call->first)
    return "has arguments past the end";
  for (uint32_t i = 0; i < call->count; ++i) {
    if (tables->arguments[call->first + i] >= tables->tensor_count) return "names a tensor that does not exist";
  }
  return NULL;
}

static const char *fault_of_port(const crossfarm_model_tables *tables, const crossfarm_table_port *port,
                                 bool is_input) {
  if (port->name == NULL) return "has no name";
  if (port->tensor >= tables->tensor_count) return "names a tensor that does not exist";
  if (is_input && tables->tensors[port->tensor].place != CROSSFARM_PLACE_ARENA) return "lies in the weights";
  return NULL;
}

static crossfarm_status damaged(const char *what, uint32_t index, const char *fault) {
  return crossfarm_fail(CROSSFARM_BAD_BUNDLE, "the compiled model is damaged: %s %u %s; compile it again", what, index,
                        fault);
}

crossfarm_status crossfarm_check_tables(const crossfarm_model_tables *tables) {
  uint8_t identity[32];
  if (tables->model == NULL || tables->target == NULL || !crossfarm_identity_bytes(tables->identity, identity))
    return crossfarm_fail(CROSSFARM_BAD_BUNDLE, "the compiled model is damaged: no name or identity; compile it again");
  if (tables->arena_bytes > SIZE_MAX / 2 || tables->weights_bytes > SIZE_MAX / 2)
    return crossfarm_fail(CROSSFARM_MACHINE_FAILED, "the model is too large for the addresses of this machine");
  const char *fault;
  for (uint32_t i = 0; i < tables->tensor_count; ++i) {
    if ((fault = fault_of_tensor(tables, &tables->tensors[i])) != NULL) return damaged("tensor", i, fault);
  }
  for (uint32_t i = 0; i < tables->call_count; ++i) {
    if ((fault = fault_of_call(tables, &tables->calls[i])) != NULL) return damaged("call", i, fault);
  }
  for (uint32_t i = 0; i < tables->input_count; ++i) {
    if ((fault = fault_of_port(tables, &tables->inputs[i], true)) != NULL) return damaged("input", i, fault);
  }
  for (uint32_t i = 0; i < tables->output_count; ++i) {
    if ((fault = fault_of_port(tables, &tables->outputs[i], false)) != NULL) return damaged("output", i, fault);
  }
  return CROSSFARM_GOOD;
}
