/* What manifest.json must say for a bundle to be this program's own. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bundle.h"
#include "runtime.h"

enum { MAXIMUM_CASES = 1000000 };

static crossfarm_status lacks(const char *where, const char *what) {
  return crossfarm_fail(CROSSFARM_BAD_BUNDLE, "manifest.json: %s is not %s; bundle the model again", where, what);
}

static crossfarm_status differs(const char *where, const char *said, const char *expected) {
  return crossfarm_fail(CROSSFARM_BAD_BUNDLE, "manifest.json: %s is '%.80s', but this program was compiled for "
                        "'%.80s'; the bundle is another's", where, said, expected);
}

static bool is_text(const crossfarm_json_value *value) {
  return value != NULL && value->kind == CROSSFARM_JSON_STRING;
}

static bool is_list(const crossfarm_json_value *value) {
  return value != NULL && value->kind == CROSSFARM_JSON_ARRAY;
}

static bool is_count(const crossfarm_json_value *value) {
  return value != NULL && value->kind == CROSSFARM_JSON_INTEGER && value->integer >= 0;
}

/* A path below the folder, spelt in the one plain way: no empty part, no "." and no "..", nothing unprintable. */
static bool is_inside(const char *path) {
  const size_t length = strlen(path);
  if (length == 0 || length > CROSSFARM_MAX_PATH) return false;
  for (const char *part = path;;) {
    const size_t size = strcspn(part, "/");
    if (size == 0 || (part[0] == '.' && (size == 1 || (size == 2 && part[1] == '.')))) return false;
    for (size_t i = 0; i < size; ++i) {
      if ((unsigned char)part[i] < 0x20 || part[i] == 0x7f) return false;
    }
    if (part[size] == '\0') return true;
    part += size + 1;
  }
}

/* ---- files ---- */

static const crossfarm_bundle_file *find_file(const crossfarm_bundle *bundle, const char *path) {
  for (size_t i = 0; i < bundle->file_count; ++i) {
    if (strcmp(bundle->files[i].path, path) == 0) return &bundle->files[i];
  }
  return NULL;
}

static crossfarm_status apply_files(crossfarm_bundle *bundle, const crossfarm_json_value *root) {
  const crossfarm_json_value *files = crossfarm_json_member(root, "files");
  if (!is_list(files)) return lacks("'files'", "a list");
  bundle->files = calloc((size_t)files->count + 1, sizeof *bundle->files);
  if (bundle->files == NULL) return crossfarm_fail(CROSSFARM_MACHINE_FAILED, "out of memory: the manifest");
  for (const crossfarm_json_value *row = files->child; row != NULL; row = row->next) {
    char where[48];
    (void)snprintf(where, sizeof where, "files[%zu]", bundle->file_count);
    const crossfarm_json_value *path = crossfarm_json_member(row, "path");
    const crossfarm_json_value *bytes = crossfarm_json_member(row, "bytes");
    const crossfarm_json_value *sha256 = crossfarm_json_member(row, "sha256");
    uint8_t digest[32];
    if (!is_text(path) || !is_count(bytes) || !is_text(sha256) || !crossfarm_identity_bytes(sha256->text, digest))
      return lacks(where, "a path, a size and a sha256");
    if (!is_inside(path->text))
      return crossfarm_fail(CROSSFARM_BAD_BUNDLE, "manifest.json: %s: the path '%.80s' leaves the bundle", where,
                            path->text);
    if (find_file(bundle, path->text) != NULL) return lacks(where, "named once");
    bundle->files[bundle->file_count++] = (crossfarm_bundle_file){
        .path = path->text, .sha256 = sha256->text, .bytes = (uint64_t)bytes->integer};
  }
  const crossfarm_bundle_file *program = find_file(bundle, "program");
  if (program == NULL) return lacks("'files'", "complete: it lacks 'program'");
  bundle->program_bytes = program->bytes;
  return CROSSFARM_GOOD;
}

/* ---- identity ---- */

static crossfarm_status check_text(const crossfarm_json_value *root, const char *key, const char *expected) {
  const crossfarm_json_value *value = crossfarm_json_member(root, key);
  char where[32];
  (void)snprintf(where, sizeof where, "'%s'", key);
  if (!is_text(value)) return lacks(where, "a text");
  return strcmp(value->text, expected) == 0 ? CROSSFARM_GOOD : differs(where, value->text, expected);
}

static crossfarm_status check_identity(const crossfarm_json_value *root, const crossfarm_model_tables *tables) {
  const crossfarm_json_value *format = crossfarm_json_member(root, "format");
  if (!is_count(format)) return lacks("'format'", "a number");
  if (format->integer != 1)
    return crossfarm_fail(CROSSFARM_BAD_BUNDLE, "manifest.json: format %" PRId64 ", this program reads format 1; "
                          "bundle the model again", format->integer);
  crossfarm_status status = check_text(root, "model", tables->model);
  if (status == CROSSFARM_GOOD) status = check_text(root, "target", tables->target);
  if (status == CROSSFARM_GOOD) status = check_text(root, "identity", tables->identity);
  return status;
}

/* ---- inputs and outputs ---- */

static bool has_shape(const crossfarm_json_value *shape, const crossfarm_table_tensor *tensor) {
  if (!is_list(shape) || shape->count != (uint32_t)tensor->rank) return false;
  const int64_t *extent = tensor->shape;
  for (const crossfarm_json_value *axis = shape->child; axis != NULL; axis = axis->next, ++extent) {
    if (!is_count(axis) || axis->integer != *extent) return false;
  }
  return true;
}

static crossfarm_status check_port(const crossfarm_json_value *row, const char *where,
                                   const crossfarm_model_tables *tables, const crossfarm_table_port *port) {
  const crossfarm_table_tensor *tensor = &tables->tensors[port->tensor];
  const char *type = crossfarm_model_type_name((crossfarm_type)(tensor->type_code << 8 | tensor->type_bits));
  const crossfarm_json_value *name = crossfarm_json_member(row, "name");
  const crossfarm_json_value *dtype = crossfarm_json_member(row, "dtype");
  if (!is_text(name) || !is_text(dtype)) return lacks(where, "a name, a dtype and a shape");
  if (strcmp(name->text, port->name) != 0) return differs(where, name->text, port->name);
  if (strcmp(dtype->text, type) != 0) return differs(where, dtype->text, type);
  if (!has_shape(crossfarm_json_member(row, "shape"), tensor))
    return crossfarm_fail(CROSSFARM_BAD_BUNDLE, "manifest.json: %s ('%.80s') has another shape than the one that this "
                          "program was compiled for; the bundle is another's", where, port->name);
  return CROSSFARM_GOOD;
}

static crossfarm_status check_ports(const crossfarm_json_value *rows, const char *what,
                                    const crossfarm_model_tables *tables, const crossfarm_table_port *ports,
                                    uint32_t count) {
  char where[48];
  (void)snprintf(where, sizeof where, "'%s'", what);
  if (!is_list(rows)) return lacks(where, "a list");
  if (rows->count != count)
    return crossfarm_fail(CROSSFARM_BAD_BUNDLE, "manifest.json: %s has %u entries, but this program has %u; the bundle "
                          "is another's", where, rows->count, count);
  uint32_t index = 0;
  for (const crossfarm_json_value *row = rows->child; row != NULL; row = row->next, ++index) {
    (void)snprintf(where, sizeof where, "%s[%u]", what, index);
    const crossfarm_status status = check_port(row, where, tables, &ports[index]);
    if (status != CROSSFARM_GOOD) return status;
  }
  return CROSSFARM_GOOD;
}

static crossfarm_status apply_inputs(crossfarm_bundle *bundle, const crossfarm_json_value *rows,
                                     const crossfarm_model_tables *tables) {
  bundle->inputs = calloc((size_t)tables->input_count + 1, sizeof *bundle->inputs);
  if (bundle->inputs == NULL) return crossfarm_fail(CROSSFARM_MACHINE_FAILED, "out of memory: the manifest");
  uint32_t index = 0;
  for (const crossfarm_json_value *row = rows->child; row != NULL; row = row->next, ++index) {
    char where[48];
    (void)snprintf(where, sizeof where, "inputs[%u].file", index);
    const crossfarm_json_value *path = crossfarm_json_member(row, "file");
    const crossfarm_bundle_file *file = is_text(path) ? find_file(bundle, path->text) : NULL;
    if (file == NULL) return lacks(where, "one of 'files'");
    uint64_t expected;
    if (__builtin_mul_overflow(bundle->cases, tables->tensors[tables->inputs[index].tensor].bytes, &expected) ||
        file->bytes != expected)
      return crossfarm_fail(CROSSFARM_BAD_BUNDLE, "manifest.json: %s ('%.80s') has %" PRIu64 " bytes, which is not the "
                            "size of %" PRIu64 " cases; bundle the model again", where, file->path, file->bytes,
                            bundle->cases);
    bundle->inputs[index] = file;
  }
  return CROSSFARM_GOOD;
}

static crossfarm_status apply_ports(crossfarm_bundle *bundle, const crossfarm_json_value *root,
                                    const crossfarm_model_tables *tables) {
  const crossfarm_json_value *inputs = crossfarm_json_member(root, "inputs");
  const crossfarm_json_value *outputs = crossfarm_json_member(root, "outputs");
  const crossfarm_json_value *cases = crossfarm_json_member(root, "cases");
  if (!is_count(cases) || cases->integer < 1 || cases->integer > MAXIMUM_CASES)
    return lacks("'cases'", "a number from 1 to 1000000");
  bundle->cases = (uint64_t)cases->integer;
  crossfarm_status status = check_ports(inputs, "inputs", tables, tables->inputs, tables->input_count);
  if (status == CROSSFARM_GOOD) status = check_ports(outputs, "outputs", tables, tables->outputs, tables->output_count);
  return status == CROSSFARM_GOOD ? apply_inputs(bundle, inputs, tables) : status;
}

/* ---- sequences ---- */

/* The output of a name that has the type and size of an input; -1 when there is none. */
static int64_t find_source(const crossfarm_model_tables *tables, uint32_t input, const char *name) {
  const crossfarm_table_tensor *taken = &tables->tensors[tables->inputs[input].tensor];
  for (uint32_t i = 0; i < tables->output_count; ++i) {
    const crossfarm_table_tensor *given = &tables->tensors[tables->outputs[i].tensor];
    if (strcmp(tables->outputs[i].name, name) == 0 && given->bytes == taken->bytes &&
        given->type_code == taken->type_code && given->type_bits == taken->type_bits)
      return (int64_t)i;
  }
  return -1;
}

static crossfarm_status apply_carried(crossfarm_bundle *bundle, const crossfarm_json_value *root,
                                      const crossfarm_model_tables *tables) {
  bundle->carried_from = calloc((size_t)tables->input_count + 1, sizeof *bundle->carried_from);
  if (bundle->carried_from == NULL) return crossfarm_fail(CROSSFARM_MACHINE_FAILED, "out of memory: the manifest");
  uint32_t index = 0;
  const crossfarm_json_value *rows = crossfarm_json_member(root, "inputs");
  for (const crossfarm_json_value *row = rows->child; row != NULL; row = row->next, ++index) {
    const crossfarm_json_value *source = crossfarm_json_member(row, "carry_from");
    bundle->carried_from[index] = -1;
    if (source == NULL || source->kind == CROSSFARM_JSON_NULL) continue;
    char where[48];
    (void)snprintf(where, sizeof where, "inputs[%u].carry_from", index);
    bundle->carried_from[index] = is_text(source) ? find_source(tables, index, source->text) : -1;
    if (bundle->carried_from[index] < 0) return lacks(where, "an output of the input's type and size");
  }
  return CROSSFARM_GOOD;
}

static crossfarm_status apply_sequences(crossfarm_bundle *bundle, const crossfarm_json_value *root) {
  const crossfarm_json_value *rows = crossfarm_json_member(root, "sequences");
  if (rows == NULL) return CROSSFARM_GOOD;
  if (!is_list(rows)) return lacks("'sequences'", "a list");
  bundle->sequences = calloc((size_t)rows->count + 1, sizeof *bundle->sequences);
  if (bundle->sequences == NULL) return crossfarm_fail(CROSSFARM_MACHINE_FAILED, "out of memory: the manifest");
  uint64_t end = 0;
  for (const crossfarm_json_value *row = rows->child; row != NULL; row = row->next) {
    char where[48];
    (void)snprintf(where, sizeof where, "sequences[%zu]", bundle->sequence_count);
    const crossfarm_json_value *first = crossfarm_json_member(row, "first");
    const crossfarm_json_value *cases = crossfarm_json_member(row, "cases");
    if (!is_count(first) || !is_count(cases)) return lacks(where, "a first case and a number of cases");
    const crossfarm_bundle_sequence sequence = {.first = (uint64_t)first->integer, .cases = (uint64_t)cases->integer};
    if (sequence.cases == 0 || sequence.first < end || sequence.first >= bundle->cases ||
        sequence.cases > bundle->cases - sequence.first)
      return lacks(where, "within the cases, behind the sequence before it");
    end = sequence.first + sequence.cases;
    bundle->sequences[bundle->sequence_count++] = sequence;
  }
  return CROSSFARM_GOOD;
}

/* ---- weights ---- */

static crossfarm_status apply_weights(crossfarm_bundle *bundle, const crossfarm_json_value *root,
                                      const crossfarm_model_tables *tables) {
  const crossfarm_json_value *weights = crossfarm_json_member(root, "weights");
  const crossfarm_json_value *path = crossfarm_json_member(weights, "file");
  const crossfarm_json_value *bytes = crossfarm_json_member(weights, "bytes");
  const crossfarm_json_value *arena = crossfarm_json_member(weights, "arena_bytes");
  if (!is_text(path) || !is_count(bytes) || !is_count(arena)) return lacks("'weights'", "a file and sizes");
  const crossfarm_bundle_file *file = find_file(bundle, path->text);
  if (file == NULL) return lacks("weights.file", "one of 'files'");
  if (file->bytes != (uint64_t)bytes->integer ||
      file->bytes != tables->weights_bytes + CROSSFARM_WEIGHTS_HEADER_BYTES ||
      (uint64_t)arena->integer != tables->arena_bytes)
    return crossfarm_fail(CROSSFARM_BAD_BUNDLE, "manifest.json: 'weights' has other sizes than this program was "
                          "compiled for; the bundle is another's");
  const size_t size = strlen(bundle->path) + 1 + strlen(file->path) + 1;
  bundle->weights_path = malloc(size);
  if (bundle->weights_path == NULL) return crossfarm_fail(CROSSFARM_MACHINE_FAILED, "out of memory: the manifest");
  (void)snprintf(bundle->weights_path, size, "%s/%s", bundle->path, file->path);
  return CROSSFARM_GOOD;
}

crossfarm_status crossfarm_manifest_apply(crossfarm_bundle *bundle, const crossfarm_model_tables *tables) {
  const crossfarm_json_value *root = bundle->document.values;
  if (root->kind != CROSSFARM_JSON_OBJECT) return lacks("it", "an object");
  crossfarm_status status = check_identity(root, tables);
  if (status == CROSSFARM_GOOD) status = apply_files(bundle, root);
  if (status == CROSSFARM_GOOD) status = apply_ports(bundle, root, tables);
  if (status == CROSSFARM_GOOD) status = apply_carried(bundle, root, tables);
  if (status == CROSSFARM_GOOD) status = apply_sequences(bundle, root);
  if (status == CROSSFARM_GOOD) status = apply_weights(bundle, root, tables);
  return status;
}
