/* A strict reader of JSON (RFC 8259) for small files of strangers: everything is bounded, nothing is guessed. */
#ifndef CROSSFARM_JSON_H
#define CROSSFARM_JSON_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define CROSSFARM_JSON_MAX_BYTES (1024u * 1024u)
#define CROSSFARM_JSON_MAX_DEPTH 16u
#define CROSSFARM_JSON_MAX_VALUES 16384u
#define CROSSFARM_JSON_MAX_MEMBERS 512u /* of one object */

typedef enum {
  CROSSFARM_JSON_NULL,
  CROSSFARM_JSON_FALSE,
  CROSSFARM_JSON_TRUE,
  CROSSFARM_JSON_INTEGER, /* fits int64_t and is written without fraction and exponent */
  CROSSFARM_JSON_REAL,    /* any other number; its value is not kept */
  CROSSFARM_JSON_STRING,
  CROSSFARM_JSON_ARRAY,
  CROSSFARM_JSON_OBJECT,
} crossfarm_json_kind;

typedef struct crossfarm_json_value {
  crossfarm_json_kind kind;
  uint32_t count;   /* of elements or members */
  int64_t integer;
  const char *text; /* of a string: UTF-8 without a NUL inside */
  const char *key;  /* when this is a member of an object */
  const struct crossfarm_json_value *child; /* first element or member */
  const struct crossfarm_json_value *next;  /* the one after this */
} crossfarm_json_value;

typedef struct {
  crossfarm_json_value *values; /* values[0] is the root */
  char *texts;
} crossfarm_json_document;

/* Reads `size` bytes. True when they are one JSON value within the bounds; else `*fault` says what is wrong (NULL: out
 * of memory) and `*offset` where. A document that was read is given back with crossfarm_json_free. */
bool crossfarm_json_read(const char *bytes, size_t size, crossfarm_json_document *document, const char **fault,
                         size_t *offset);
void crossfarm_json_free(crossfarm_json_document *document);

/* The member of that name, or NULL: `object` may be NULL or no object at all. */
const crossfarm_json_value *crossfarm_json_member(const crossfarm_json_value *object, const char *key);

#endif
