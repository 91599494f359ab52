/* Reads JSON from standard input and prints it again, canonically; or the fault, with exit code 1. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "json.h"

static void print_text(const char *text) {
  putchar('"');
  for (; *text != '\0'; ++text) printf("%02x", (unsigned char)*text);
  putchar('"');
}

static void print(const crossfarm_json_value *value) {
  uint32_t count = 0;
  switch (value->kind) {
    case CROSSFARM_JSON_NULL: printf("null"); return;
    case CROSSFARM_JSON_FALSE: printf("false"); return;
    case CROSSFARM_JSON_TRUE: printf("true"); return;
    case CROSSFARM_JSON_INTEGER: printf("%" PRId64, value->integer); return;
    case CROSSFARM_JSON_REAL: printf("\"real\""); return;
    case CROSSFARM_JSON_STRING: print_text(value->text); return;
    case CROSSFARM_JSON_ARRAY:
    case CROSSFARM_JSON_OBJECT: break;
  }
  const int is_object = value->kind == CROSSFARM_JSON_OBJECT;
  putchar(is_object ? '{' : '[');
  for (const crossfarm_json_value *child = value->child; child != NULL; child = child->next, ++count) {
    if (count > 0) putchar(',');
    if (is_object) {
      if (crossfarm_json_member(value, child->key) != child) abort();
      print_text(child->key);
      putchar(':');
    }
    print(child);
  }
  if (count != value->count) abort();
  putchar(is_object ? '}' : ']');
}

int main(void) {
  const size_t room = 2 * CROSSFARM_JSON_MAX_BYTES;
  char *whole = malloc(room);
  if (whole == NULL) return 2;
  const size_t size = fread(whole, 1, room, stdin);
  char *bytes = realloc(whole, size > 0 ? size : 1); /* so that reading past the end is seen */
  crossfarm_json_document document;
  const char *fault = NULL;
  size_t offset = 0;
  const int is_good = crossfarm_json_read(bytes, size, &document, &fault, &offset);
  if (is_good) {
    print(document.values);
    crossfarm_json_free(&document);
  } else {
    printf("%zu: %s", offset, fault);
  }
  free(bytes);
  return !is_good;
}
