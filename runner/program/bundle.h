/* A bundle: the folder that goes onto a board. Opening it means that its manifest fits this program and that every
 * file is there in its full size; verifying it means that every byte is the one that was bundled. */
#ifndef CROSSFARM_BUNDLE_H
#define CROSSFARM_BUNDLE_H

#include <stddef.h>
#include <stdint.h>

#include "json.h"
#include "model.h"
#include "model_tables.h"

#define CROSSFARM_MAX_PATH 255u /* of a file below the folder */

#pragma GCC visibility push(hidden)

typedef struct {
  const char *path; /* relative to the folder, no ".." in it */
  const char *sha256;
  uint64_t bytes;
} crossfarm_bundle_file;

/* Cases of which each but the first takes outputs of the one before. */
typedef struct {
  uint64_t first;
  uint64_t cases;
} crossfarm_bundle_sequence;

typedef struct {
  const char *path; /* of the folder */
  int folder;       /* descriptor of the folder */
  uint64_t cases;
  uint64_t program_bytes;
  char *weights_path;               /* with the folder in front */
  const crossfarm_bundle_file **inputs; /* one per input of the model */
  int64_t *carried_from; /* one per input: the output that a sequence feeds back into it, or -1 */
  crossfarm_bundle_sequence *sequences; /* rising, none within another */
  size_t sequence_count;
  crossfarm_bundle_file *files;
  size_t file_count;
  crossfarm_json_document document; /* what the texts above point into */
} crossfarm_bundle;

/* On failure there is nothing to close, and the error text says what is wrong with which file. */
crossfarm_status crossfarm_bundle_open(const char *folder, const crossfarm_model_tables *tables,
                                       crossfarm_bundle *bundle);
crossfarm_status crossfarm_bundle_verify(const crossfarm_bundle *bundle);
void crossfarm_bundle_close(crossfarm_bundle *bundle);

/* Opens a file of the bundle for reading; follows no symbolic link. */
crossfarm_status crossfarm_bundle_open_file(const crossfarm_bundle *bundle, const char *path, int *file);

/* Reads exactly `size` bytes from `offset`. `path` is for the message. */
crossfarm_status crossfarm_read_exactly(int file, const char *path, void *memory, size_t size, uint64_t offset);

/* manifest.c: fills the bundle from its parsed manifest and compares it with what the program was compiled from. */
crossfarm_status crossfarm_manifest_apply(crossfarm_bundle *bundle, const crossfarm_model_tables *tables);

#pragma GCC visibility pop

#endif
