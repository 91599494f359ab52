/* Stands in for mmap of a file system that cannot map: the runner is compiled with -Dmmap=failing_mmap. */
#include <errno.h>
#include <sys/mman.h>

void *failing_mmap(void *address, size_t size, int protection, int flags, int file, off_t offset) {
  (void)address, (void)size, (void)protection, (void)flags, (void)file, (void)offset;
  errno = ENODEV;
  return MAP_FAILED;
}
