/* The files of a bundle: found below its folder only, in their full size, with the bytes that were bundled. */
#define _GNU_SOURCE
#define _FILE_OFFSET_BITS 64
#include "bundle.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "runtime.h"
#include "sha256.h"

enum { CHUNK_BYTES = 64 * 1024 };

crossfarm_status crossfarm_read_exactly(int file, const char *path, void *memory, size_t size, uint64_t offset) {
  size_t done = 0;
  while (done < size) {
    const ssize_t count = pread(file, (uint8_t *)memory + done, size - done, (off_t)(offset + done));
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) return crossfarm_fail(CROSSFARM_MACHINE_FAILED, "%s: cannot be read: %s", path, strerror(errno));
    if (count == 0) return crossfarm_fail(CROSSFARM_BAD_BUNDLE, "%s: truncated; copy the bundle again", path);
    done += (size_t)count;
  }
  return CROSSFARM_GOOD;
}

/* Opens part by part, so that no symbolic link on the way can lead out of the folder. */
static int open_below(int folder, const char *path) {
  char part[CROSSFARM_MAX_PATH + 1];
  if (strlen(path) > CROSSFARM_MAX_PATH) {
    errno = ENAMETOOLONG;
    return -1;
  }
  for (int parent = folder;;) {
    const size_t size = strcspn(path, "/");
    const bool is_last = path[size] == '\0';
    memcpy(part, path, size);
    part[size] = '\0';
    /* O_NONBLOCK: a pipe of that name must not hold the program for ever. */
    const int flags = O_RDONLY | O_CLOEXEC | O_NOFOLLOW | (is_last ? O_NONBLOCK : O_DIRECTORY);
    const int file = openat(parent, part, flags);
    const int fault = errno;
    if (parent != folder) (void)close(parent);
    errno = fault;
    if (file < 0 || is_last) return file;
    parent = file;
    path += size + 1;
  }
}

static crossfarm_status cannot_open(const char *path) {
  const char *reason = errno == ENOENT ? "missing" : errno == ELOOP ? "a symbolic link" : strerror(errno);
  return crossfarm_fail(CROSSFARM_BAD_BUNDLE, "%s: %s; copy the bundle again", path, reason);
}

crossfarm_status crossfarm_bundle_open_file(const crossfarm_bundle *bundle, const char *path, int *file) {
  *file = open_below(bundle->folder, path);
  return *file >= 0 ? CROSSFARM_GOOD : cannot_open(path);
}

/* Opens a regular file and tells its size. */
static crossfarm_status open_regular(const crossfarm_bundle *bundle, const char *path, int *file, uint64_t *bytes) {
  crossfarm_status status = crossfarm_bundle_open_file(bundle, path, file);
  if (status != CROSSFARM_GOOD) return status;
  struct stat about;
  if (fstat(*file, &about) != 0) {
    status = crossfarm_fail(CROSSFARM_MACHINE_FAILED, "%s: cannot be read: %s", path, strerror(errno));
  } else if (!S_ISREG(about.st_mode)) {
    status = crossfarm_fail(CROSSFARM_BAD_BUNDLE, "%s: not a regular file; copy the bundle again", path);
  } else {
    *bytes = (uint64_t)about.st_size;
  }
  if (status != CROSSFARM_GOOD) (void)close(*file);
  return status;
}

/* ---- manifest ---- */

static crossfarm_status parse_manifest(crossfarm_bundle *bundle, const char *bytes, size_t size) {
  const char *fault;
  size_t offset;
  if (crossfarm_json_read(bytes, size, &bundle->document, &fault, &offset)) return CROSSFARM_GOOD;
  if (fault == NULL) return crossfarm_fail(CROSSFARM_MACHINE_FAILED, "out of memory: the manifest");
  return crossfarm_fail(CROSSFARM_BAD_BUNDLE, "manifest.json: not the JSON of a manifest, byte %zu: %s; copy the "
                        "bundle again", offset, fault);
}

static crossfarm_status read_manifest(crossfarm_bundle *bundle) {
  int file;
  uint64_t bytes;
  crossfarm_status status = open_regular(bundle, "manifest.json", &file, &bytes);
  if (status != CROSSFARM_GOOD) return status;
  char *text = NULL;
  if (bytes > CROSSFARM_JSON_MAX_BYTES) {
    status =
        crossfarm_fail(CROSSFARM_BAD_BUNDLE, "manifest.json: %" PRIu64 " bytes are too many for a manifest", bytes);
  } else if ((text = malloc((size_t)bytes + 1)) == NULL) {
    status = crossfarm_fail(CROSSFARM_MACHINE_FAILED, "out of memory: the manifest");
  } else {
    status = crossfarm_read_exactly(file, "manifest.json", text, (size_t)bytes, 0);
  }
  (void)close(file);
  if (status == CROSSFARM_GOOD) status = parse_manifest(bundle, text, (size_t)bytes);
  free(text);
  return status;
}

/* ---- files ---- */

static crossfarm_status check_sizes(const crossfarm_bundle *bundle) {
  for (size_t i = 0; i < bundle->file_count; ++i) {
    const crossfarm_bundle_file *expected = &bundle->files[i];
    int file;
    uint64_t bytes;
    const crossfarm_status status = open_regular(bundle, expected->path, &file, &bytes);
    if (status != CROSSFARM_GOOD) return status;
    (void)close(file);
    if (bytes != expected->bytes)
      return crossfarm_fail(CROSSFARM_BAD_BUNDLE, "%s: %s, %" PRIu64 " bytes of %" PRIu64 "; copy the bundle again",
                            expected->path, bytes < expected->bytes ? "truncated" : "too long", bytes, expected->bytes);
  }
  return CROSSFARM_GOOD;
}

static crossfarm_status verify_file(const crossfarm_bundle *bundle, const crossfarm_bundle_file *expected,
                                    uint8_t *chunk) {
  int file;
  crossfarm_status status = crossfarm_bundle_open_file(bundle, expected->path, &file);
  if (status != CROSSFARM_GOOD) return status;
  crossfarm_sha256 hash;
  crossfarm_sha256_start(&hash);
  for (uint64_t done = 0; done < expected->bytes && status == CROSSFARM_GOOD;) {
    const uint64_t left = expected->bytes - done;
    const size_t size = left < CHUNK_BYTES ? (size_t)left : CHUNK_BYTES;
    status = crossfarm_read_exactly(file, expected->path, chunk, size, done);
    if (status == CROSSFARM_GOOD) crossfarm_sha256_add(&hash, chunk, size);
    done += size;
  }
  (void)close(file);
  if (status != CROSSFARM_GOOD) return status;
  char digest[65];
  crossfarm_sha256_end(&hash, digest);
  if (strcmp(digest, expected->sha256) == 0) return CROSSFARM_GOOD;
  return crossfarm_fail(CROSSFARM_BAD_BUNDLE, "%s: corrupt, sha256 %.12s... instead of %.12s...; copy the bundle again",
                        expected->path, digest, expected->sha256);
}

crossfarm_status crossfarm_bundle_verify(const crossfarm_bundle *bundle) {
  uint8_t *chunk = malloc(CHUNK_BYTES);
  if (chunk == NULL) return crossfarm_fail(CROSSFARM_MACHINE_FAILED, "out of memory: %d bytes", (int)CHUNK_BYTES);
  crossfarm_status status = CROSSFARM_GOOD;
  for (size_t i = 0; i < bundle->file_count && status == CROSSFARM_GOOD; ++i)
    status = verify_file(bundle, &bundle->files[i], chunk);
  free(chunk);
  return status;
}

crossfarm_status crossfarm_bundle_open(const char *folder, const crossfarm_model_tables *tables,
                                       crossfarm_bundle *bundle) {
  *bundle = (crossfarm_bundle){.path = folder, .folder = -1};
  crossfarm_status status = crossfarm_check_tables(tables);
  if (status != CROSSFARM_GOOD) return status;
  bundle->folder = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (bundle->folder < 0)
    return crossfarm_fail(CROSSFARM_BAD_BUNDLE, "%s: not a bundle's folder: %s", folder, strerror(errno));
  status = read_manifest(bundle);
  if (status == CROSSFARM_GOOD) status = crossfarm_manifest_apply(bundle, tables);
  if (status == CROSSFARM_GOOD) status = check_sizes(bundle);
  if (status != CROSSFARM_GOOD) crossfarm_bundle_close(bundle);
  return status;
}

void crossfarm_bundle_close(crossfarm_bundle *bundle) {
  if (bundle->folder >= 0) (void)close(bundle->folder);
  free(bundle->weights_path);
  free((void *)bundle->inputs);
  free(bundle->carried_from);
  free(bundle->sequences);
  free(bundle->files);
  crossfarm_json_free(&bundle->document);
  *bundle = (crossfarm_bundle){.folder = -1};
}
