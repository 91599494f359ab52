/* A recursive-descent reader over one pass. Its depth is bounded, so its stack is; values and texts lie in two blocks
 * that are as large as the bounds and the file allow. */
#include "json.h"

#include <stdlib.h>
#include <string.h>

typedef struct {
  const char *at;
  const char *end;
  crossfarm_json_document *document;
  uint32_t used;      /* values */
  uint32_t capacity;  /* values */
  char *text;         /* where the next string goes */
  const char *fault;
} reader;

static bool read_value(reader *in, unsigned depth, uint32_t index);

static bool refuse(reader *in, const char *fault) {
  in->fault = fault;
  return false;
}

static void skip_space(reader *in) {
  while (in->at < in->end && (*in->at == ' ' || *in->at == '\t' || *in->at == '\n' || *in->at == '\r')) ++in->at;
}

static bool take(reader *in, char c) {
  if (in->at == in->end || *in->at != c) return false;
  ++in->at;
  return true;
}

static bool is_digit(const reader *in) { return in->at < in->end && *in->at >= '0' && *in->at <= '9'; }

/* ---- numbers ---- */

static bool read_digits(reader *in, bool is_negative, int64_t *value, bool *fits) {
  if (!is_digit(in)) return refuse(in, "a number lacks digits");
  for (; is_digit(in); ++in->at) {
    const int64_t digit = *in->at - '0';
    *fits = *fits && !__builtin_mul_overflow(*value, 10, value) &&
            !__builtin_add_overflow(*value, is_negative ? -digit : digit, value);
  }
  return true;
}

static bool read_number(reader *in, crossfarm_json_value *value) {
  bool fits = true;
  bool ignored = true;
  int64_t nowhere = 0;
  const bool is_negative = take(in, '-');
  const bool starts_with_zero = in->at < in->end && *in->at == '0';
  const char *start = in->at;
  if (!read_digits(in, is_negative, &value->integer, &fits)) return false;
  if (starts_with_zero && in->at - start > 1) return refuse(in, "a number starts with a superfluous 0");
  if (take(in, '.')) {
    fits = false;
    if (!read_digits(in, false, &nowhere, &ignored)) return false;
  }
  if (take(in, 'e') || take(in, 'E')) {
    fits = false;
    if (!take(in, '+')) (void)take(in, '-');
    if (!read_digits(in, false, &nowhere, &ignored)) return false;
  }
  value->kind = fits ? CROSSFARM_JSON_INTEGER : CROSSFARM_JSON_REAL;
  return true;
}

/* ---- strings ---- */

static bool read_hex4(reader *in, uint32_t *code) {
  *code = 0;
  for (unsigned i = 0; i < 4; ++i, ++in->at) {
    if (in->at == in->end) return refuse(in, "a string does not end");
    const char c = *in->at;
    uint32_t digit;
    if (c >= '0' && c <= '9') {
      digit = (uint32_t)(c - '0');
    } else if (c >= 'a' && c <= 'f') {
      digit = (uint32_t)(c - 'a' + 10);
    } else if (c >= 'A' && c <= 'F') {
      digit = (uint32_t)(c - 'A' + 10);
    } else {
      return refuse(in, "\\u lacks four hex digits");
    }
    *code = *code << 4 | digit;
  }
  return true;
}

/* Writes at most as many bytes as the escape took, so the block of texts never overflows. */
static void put_utf8(reader *in, uint32_t code) {
  if (code < 0x80) {
    *in->text++ = (char)code;
    return;
  }
  if (code < 0x800) {
    *in->text++ = (char)(0xc0 | code >> 6);
  } else {
    if (code < 0x10000) {
      *in->text++ = (char)(0xe0 | code >> 12);
    } else {
      *in->text++ = (char)(0xf0 | code >> 18);
      *in->text++ = (char)(0x80 | (code >> 12 & 0x3f));
    }
    *in->text++ = (char)(0x80 | (code >> 6 & 0x3f));
  }
  *in->text++ = (char)(0x80 | (code & 0x3f));
}

static bool read_unicode_escape(reader *in) {
  uint32_t code;
  if (!read_hex4(in, &code)) return false;
  if (code == 0) return refuse(in, "a string holds a NUL");
  if (code >= 0xdc00 && code <= 0xdfff) return refuse(in, "half of a surrogate pair");
  if (code >= 0xd800 && code <= 0xdbff) {
    uint32_t low;
    if (!take(in, '\\') || !take(in, 'u')) return refuse(in, "half of a surrogate pair");
    if (!read_hex4(in, &low)) return false;
    if (low < 0xdc00 || low > 0xdfff) return refuse(in, "half of a surrogate pair");
    code = 0x10000 + ((code - 0xd800) << 10) + (low - 0xdc00);
  }
  put_utf8(in, code);
  return true;
}

static bool read_escape(reader *in) {
  static const char names[] = "\"\\/bfnrt";
  static const char meanings[] = "\"\\/\b\f\n\r\t";
  if (take(in, 'u')) return read_unicode_escape(in);
  const char *name = in->at < in->end && *in->at != '\0' ? strchr(names, *in->at) : NULL;
  if (name == NULL) return refuse(in, "an unknown escape in a string");
  *in->text++ = meanings[name - names];
  ++in->at;
  return true;
}

/* Copies one well-formed UTF-8 sequence of two to four bytes (Unicode 15, table 3-7). */
static bool read_multibyte(reader *in) {
  const uint8_t *bytes = (const uint8_t *)in->at;
  const size_t left = (size_t)(in->end - in->at);
  uint8_t low = 0x80, high = 0xbf;
  size_t length;
  if (bytes[0] >= 0xc2 && bytes[0] <= 0xdf) {
    length = 2;
  } else if (bytes[0] >= 0xe0 && bytes[0] <= 0xef) {
    length = 3;
    if (bytes[0] == 0xe0) low = 0xa0;
    if (bytes[0] == 0xed) high = 0x9f;
  } else if (bytes[0] >= 0xf0 && bytes[0] <= 0xf4) {
    length = 4;
    if (bytes[0] == 0xf0) low = 0x90;
    if (bytes[0] == 0xf4) high = 0x8f;
  } else {
    return refuse(in, "a string is not UTF-8");
  }
  if (left < length || bytes[1] < low || bytes[1] > high) return refuse(in, "a string is not UTF-8");
  for (size_t i = 2; i < length; ++i) {
    if ((bytes[i] & 0xc0) != 0x80) return refuse(in, "a string is not UTF-8");
  }
  memcpy(in->text, in->at, length);
  in->text += length;
  in->at += length;
  return true;
}

static bool read_string(reader *in, const char **text) {
  if (!take(in, '"')) return refuse(in, "a string is expected here");
  *text = in->text;
  while (in->at < in->end) {
    const unsigned char c = (unsigned char)*in->at;
    if (c == '"') {
      ++in->at;
      *in->text++ = '\0';
      return true;
    }
    if (c < 0x20) return refuse(in, "a control character in a string");
    if (c == '\\') {
      ++in->at;
      if (!read_escape(in)) return false;
    } else if (c >= 0x80) {
      if (!read_multibyte(in)) return false;
    } else {
      *in->text++ = *in->at++;
    }
  }
  return refuse(in, "a string does not end");
}

/* ---- values ---- */

/* Values move when their block grows, so links are indices until all is read: see link_values. */
static bool new_value(reader *in, uint32_t *index) {
  if (in->used == CROSSFARM_JSON_MAX_VALUES) return refuse(in, "too many values");
  if (in->used == in->capacity) {
    const uint32_t capacity = in->capacity == 0 ? 256 : in->capacity * 2;
    crossfarm_json_value *values = realloc(in->document->values, capacity * sizeof *values);
    if (values == NULL) return refuse(in, NULL);
    in->document->values = values;
    in->capacity = capacity;
  }
  *index = in->used++;
  in->document->values[*index] = (crossfarm_json_value){.kind = CROSSFARM_JSON_NULL};
  return true;
}

static crossfarm_json_value *value_at(const reader *in, uint32_t index) { return &in->document->values[index]; }

/* While reading, `integer` of an array or object is the index of its first child, and `count` counts; the index of the
 * value after this one stands in `next`, as a number. Index 0 is the root, which is nobody's child: it means none. */
static void append(reader *in, uint32_t parent, uint32_t last, uint32_t index) {
  if (last == 0) {
    value_at(in, parent)->integer = index;
  } else {
    value_at(in, last)->next = (const crossfarm_json_value *)(uintptr_t)index;
  }
  ++value_at(in, parent)->count;
}

static void link_values(reader *in) {
  crossfarm_json_value *values = in->document->values;
  for (uint32_t i = 0; i < in->used; ++i) {
    const uintptr_t next = (uintptr_t)values[i].next;
    values[i].next = next == 0 ? NULL : &values[next];
    if (values[i].count > 0) {
      values[i].child = &values[values[i].integer];
      values[i].integer = 0;
    }
  }
}

static bool has_key(const reader *in, uint32_t object, const char *key) {
  uint32_t index = (uint32_t)value_at(in, object)->integer;
  for (uint32_t i = 0; i < value_at(in, object)->count; ++i) {
    if (strcmp(value_at(in, index)->key, key) == 0) return true;
    index = (uint32_t)(uintptr_t)value_at(in, index)->next;
  }
  return false;
}

static bool read_array(reader *in, unsigned depth, uint32_t parent) {
  value_at(in, parent)->kind = CROSSFARM_JSON_ARRAY;
  skip_space(in);
  if (take(in, ']')) return true;
  for (uint32_t last = 0;;) {
    uint32_t index;
    if (!new_value(in, &index) || !read_value(in, depth + 1, index)) return false;
    append(in, parent, last, index);
    last = index;
    skip_space(in);
    if (take(in, ']')) return true;
    if (!take(in, ',')) return refuse(in, "',' or ']' is expected here");
  }
}

static bool read_object(reader *in, unsigned depth, uint32_t parent) {
  value_at(in, parent)->kind = CROSSFARM_JSON_OBJECT;
  skip_space(in);
  if (take(in, '}')) return true;
  for (uint32_t last = 0;;) {
    uint32_t index;
    const char *key;
    skip_space(in);
    if (!read_string(in, &key)) return false;
    if (has_key(in, parent, key)) return refuse(in, "a key occurs twice");
    if (value_at(in, parent)->count == CROSSFARM_JSON_MAX_MEMBERS) return refuse(in, "too many members in one object");
    skip_space(in);
    if (!take(in, ':')) return refuse(in, "':' is expected here");
    if (!new_value(in, &index)) return false;
    value_at(in, index)->key = key;
    if (!read_value(in, depth + 1, index)) return false;
    append(in, parent, last, index);
    last = index;
    skip_space(in);
    if (take(in, '}')) return true;
    if (!take(in, ',')) return refuse(in, "',' or '}' is expected here");
  }
}

static bool read_word(reader *in, const char *word, crossfarm_json_kind kind, uint32_t index) {
  const size_t length = strlen(word);
  if ((size_t)(in->end - in->at) < length || memcmp(in->at, word, length) != 0)
    return refuse(in, "a value is expected here");
  in->at += length;
  value_at(in, index)->kind = kind;
  return true;
}

static bool read_value(reader *in, unsigned depth, uint32_t index) {
  if (depth > CROSSFARM_JSON_MAX_DEPTH) return refuse(in, "nested too deeply");
  skip_space(in);
  if (in->at == in->end) return refuse(in, "it ends too early");
  switch (*in->at) {
    case '{': ++in->at; return read_object(in, depth, index);
    case '[': ++in->at; return read_array(in, depth, index);
    case '"': value_at(in, index)->kind = CROSSFARM_JSON_STRING; return read_string(in, &value_at(in, index)->text);
    case 't': return read_word(in, "true", CROSSFARM_JSON_TRUE, index);
    case 'f': return read_word(in, "false", CROSSFARM_JSON_FALSE, index);
    case 'n': return read_word(in, "null", CROSSFARM_JSON_NULL, index);
    default: break;
  }
  if (*in->at == '-' || is_digit(in)) return read_number(in, value_at(in, index));
  return refuse(in, "a value is expected here");
}

bool crossfarm_json_read(const char *bytes, size_t size, crossfarm_json_document *document, const char **fault,
                         size_t *offset) {
  *document = (crossfarm_json_document){0};
  reader in = {.at = bytes, .end = bytes + size, .document = document};
  bool done;
  if (size > CROSSFARM_JSON_MAX_BYTES) {
    done = refuse(&in, "too large");
  } else {
    /* A string takes at least its two quotes in the file and never more than its bytes there, with terminator. */
    document->texts = malloc(size + 1);
    in.text = document->texts;
    uint32_t root;
    done = document->texts != NULL ? new_value(&in, &root) && read_value(&in, 1, root) : refuse(&in, NULL);
  }
  if (done) {
    skip_space(&in);
    if (in.at != in.end) done = refuse(&in, "something follows the end");
  }
  if (done) {
    link_values(&in);
    return true;
  }
  *fault = in.fault;
  *offset = (size_t)(in.at - bytes);
  crossfarm_json_free(document);
  return false;
}

void crossfarm_json_free(crossfarm_json_document *document) {
  free(document->values);
  free(document->texts);
  *document = (crossfarm_json_document){0};
}

const crossfarm_json_value *crossfarm_json_member(const crossfarm_json_value *object, const char *key) {
  if (object == NULL || object->kind != CROSSFARM_JSON_OBJECT) return NULL;
  for (const crossfarm_json_value *member = object->child; member != NULL; member = member->next) {
    if (strcmp(member->key, key) == 0) return member;
  }
  return NULL;
}
