/* JSON files of the program. A regular file is written beside its place and renamed, so that nobody reads half of it;
 * straight into its place where nothing can be made beside it. */
#define _GNU_SOURCE
#define _FILE_OFFSET_BITS 64
#include "document.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "runtime.h"

void crossfarm_put_text(FILE *file, const char *text) {
  (void)fputc('"', file);
  for (; *text != '\0'; ++text) {
    const unsigned char c = (unsigned char)*text;
    if (c < 0x20) {
      (void)fprintf(file, "\\u%04x", c);
    } else {
      if (c == '"' || c == '\\') (void)fputc('\\', file);
      (void)fputc(c, file);
    }
  }
  (void)fputc('"', file);
}

void crossfarm_put_named_text(FILE *file, const char *name, const char *text) {
  (void)fprintf(file, "\"%s\":", name);
  crossfarm_put_text(file, text);
  (void)fputc(',', file);
}

void crossfarm_put_number(FILE *file, const char *name, uint64_t number) {
  (void)fprintf(file, "\"%s\":%" PRIu64 ",", name, number);
}

static crossfarm_status cannot_write(const char *path, int fault) {
  return crossfarm_fail(CROSSFARM_MACHINE_FAILED, "%s: cannot be written: %s", path, strerror(fault));
}

/* True when all that was printed has really been taken. */
static bool is_complete(FILE *file) { return fflush(file) == 0 && ferror(file) == 0; }

crossfarm_status crossfarm_document_write(const char *place, crossfarm_document_put put, const void *content) {
  if (place == NULL) {
    put(stdout, content);
    return is_complete(stdout) ? CROSSFARM_GOOD : cannot_write("standard output", errno);
  }
  /* A device or pipe is written as it is: renaming would put a file in its place. */
  struct stat about;
  bool is_written_in_place = stat(place, &about) == 0 && !S_ISREG(about.st_mode);
  const size_t size = strlen(place) + sizeof ".part";
  char *path = malloc(size);
  if (path == NULL) return crossfarm_fail(CROSSFARM_MACHINE_FAILED, "out of memory: a path");
  (void)snprintf(path, size, "%s%s", place, is_written_in_place ? "" : ".part");
  int fault = 0;
  FILE *file = fopen(path, "we");
  if (file == NULL && !is_written_in_place && (errno == EROFS || errno == EACCES)) {
    /* A sandbox may offer this one file, in a folder that takes no other. */
    is_written_in_place = true;
    file = fopen(place, "we");
  }
  if (file == NULL) {
    fault = errno;
  } else {
    put(file, content);
    if (!is_complete(file)) fault = errno;
    if (fclose(file) != 0 && fault == 0) fault = errno;
    if (fault == 0 && !is_written_in_place && rename(path, place) != 0) fault = errno;
    if (fault != 0 && !is_written_in_place) (void)unlink(path);
  }
  free(path);
  return fault == 0 ? CROSSFARM_GOOD : cannot_write(place, fault);
}
