/* The weights file: one header that says whose it is, then the data, memory-mapped where the system can. */
#define _GNU_SOURCE
#define _FILE_OFFSET_BITS 64
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "runtime.h"

static uint64_t little_endian(const uint8_t *bytes, unsigned count) {
  uint64_t value = 0;
  for (unsigned i = 0; i < count; ++i) value |= (uint64_t)bytes[i] << (8 * i);
  return value;
}

static crossfarm_status check_header(const char *path, const uint8_t *header, const crossfarm_model_tables *tables) {
  if (memcmp(header, CROSSFARM_WEIGHTS_MAGIC, 8) != 0)
    return crossfarm_fail(CROSSFARM_BAD_BUNDLE, "%s: not a crossfarm weights file; take the one of this bundle", path);
  const uint64_t version = little_endian(header + 8, 4);
  if (version != CROSSFARM_WEIGHTS_VERSION)
    return crossfarm_fail(CROSSFARM_BAD_BUNDLE, "%s: weights of format %" PRIu64 ", this program reads format %u; "
                          "compile the model again", path, version, CROSSFARM_WEIGHTS_VERSION);
  uint8_t identity[32];
  (void)crossfarm_identity_bytes(tables->identity, identity); /* the tables were checked */
  if (memcmp(header + 24, identity, sizeof identity) != 0)
    return crossfarm_fail(CROSSFARM_BAD_BUNDLE, "%s: weights of another model or another build of %s for %s; take the "
                          "ones of this bundle", path, tables->model, tables->target);
  static const uint8_t zeros[8] = {0};
  if (little_endian(header + 16, 8) != tables->weights_bytes || little_endian(header + 12, 4) != 0 ||
      memcmp(header + 56, zeros, sizeof zeros) != 0)
    return crossfarm_fail(CROSSFARM_BAD_BUNDLE, "%s: the header is corrupt; copy the bundle again", path);
  return CROSSFARM_GOOD;
}

static crossfarm_status read_whole(int file, const char *path, crossfarm_weights *weights) {
  if (posix_memalign(&weights->memory, CROSSFARM_ALIGNMENT, weights->size) != 0) {
    weights->memory = NULL;
    return crossfarm_fail(CROSSFARM_MACHINE_FAILED, "out of memory: %zu bytes for the weights", weights->size);
  }
  size_t done = 0;
  while (done < weights->size) {
    const ssize_t count = read(file, (uint8_t *)weights->memory + done, weights->size - done);
    if (count < 0 && errno == EINTR) continue;
    if (count <= 0)
      return crossfarm_fail(CROSSFARM_MACHINE_FAILED, "%s: cannot be read: %s", path,
                            count == 0 ? "it became shorter" : strerror(errno));
    done += (size_t)count;
  }
  return CROSSFARM_GOOD;
}

static crossfarm_status load(int file, const char *path, const crossfarm_model_tables *tables,
                             crossfarm_weights *weights) {
  struct stat status;
  if (fstat(file, &status) != 0)
    return crossfarm_fail(CROSSFARM_MACHINE_FAILED, "%s: cannot be read: %s", path, strerror(errno));
  if (!S_ISREG(status.st_mode)) return crossfarm_fail(CROSSFARM_BAD_BUNDLE, "%s: not a regular file", path);
  const uint64_t expected = tables->weights_bytes + CROSSFARM_WEIGHTS_HEADER_BYTES;
  const uint64_t actual = (uint64_t)status.st_size;
  if (actual < CROSSFARM_WEIGHTS_HEADER_BYTES)
    return crossfarm_fail(CROSSFARM_BAD_BUNDLE, "%s: truncated, %" PRIu64 " bytes of %" PRIu64 "; copy the bundle "
                          "again", path, actual, expected);
  /* The header is judged before the size: "weights of another model" says more than "wrong size". */
  uint8_t header[CROSSFARM_WEIGHTS_HEADER_BYTES];
  if (pread(file, header, sizeof header, 0) != (ssize_t)sizeof header)
    return crossfarm_fail(CROSSFARM_MACHINE_FAILED, "%s: cannot be read: %s", path, strerror(errno));
  const crossfarm_status checked = check_header(path, header, tables);
  if (checked != CROSSFARM_GOOD) return checked;
  if (actual != expected)
    return crossfarm_fail(CROSSFARM_BAD_BUNDLE, "%s: %s, %" PRIu64 " bytes of %" PRIu64 "; copy the bundle again", path,
                          actual < expected ? "truncated" : "too long", actual, expected);
  weights->size = (size_t)expected;
  void *mapped = mmap(NULL, weights->size, PROT_READ, MAP_PRIVATE, file, 0);
  weights->is_mapped = mapped != MAP_FAILED;
  if (weights->is_mapped) {
    weights->memory = mapped;
  } else {
    const crossfarm_status done = read_whole(file, path, weights);
    if (done != CROSSFARM_GOOD) return done;
  }
  weights->data = (uint8_t *)weights->memory + CROSSFARM_WEIGHTS_HEADER_BYTES;
  return CROSSFARM_GOOD;
}

crossfarm_status crossfarm_weights_open(const char *path, const crossfarm_model_tables *tables,
                                        crossfarm_weights *weights) {
  *weights = (crossfarm_weights){0};
  /* O_NONBLOCK: a pipe of that name must not hold the program for ever. */
  const int file = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (file < 0) return crossfarm_fail(CROSSFARM_BAD_BUNDLE, "%s: cannot be opened: %s", path, strerror(errno));
  const crossfarm_status done = load(file, path, tables, weights);
  (void)close(file);
  if (done != CROSSFARM_GOOD) crossfarm_weights_close(weights);
  return done;
}

void crossfarm_weights_close(crossfarm_weights *weights) {
  if (weights->memory == NULL) return;
  if (weights->is_mapped) {
    (void)munmap(weights->memory, weights->size);
  } else {
    free(weights->memory);
  }
  *weights = (crossfarm_weights){0};
}
