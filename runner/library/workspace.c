/* Temporary memory of the compiled code: blocks that are kept and used again, so that a run in its stride allocates
 * nothing. */
#define _GNU_SOURCE
#include <stdlib.h>

#include "runtime.h"

enum { PAGE_BYTES = 4096 };

/* The smallest free block that is large enough. */
static crossfarm_workspace_block *find_fitting(crossfarm_workspace *workspace, size_t bytes) {
  crossfarm_workspace_block *best = NULL;
  for (unsigned i = 0; i < CROSSFARM_WORKSPACE_BLOCKS; ++i) {
    crossfarm_workspace_block *block = &workspace->blocks[i];
    if (!block->in_use && block->bytes >= bytes && (best == NULL || block->bytes < best->bytes)) best = block;
  }
  return best;
}

/* The largest free block: when none fits, it is the one to grow, so that small blocks do not pile up. */
static crossfarm_workspace_block *find_growable(crossfarm_workspace *workspace) {
  crossfarm_workspace_block *best = NULL;
  for (unsigned i = 0; i < CROSSFARM_WORKSPACE_BLOCKS; ++i) {
    crossfarm_workspace_block *block = &workspace->blocks[i];
    if (!block->in_use && (best == NULL || block->bytes > best->bytes)) best = block;
  }
  return best;
}

static bool grow(crossfarm_workspace *workspace, crossfarm_workspace_block *block, size_t bytes) {
  free(block->memory);
  workspace->held_bytes -= block->bytes;
  *block = (crossfarm_workspace_block){0};
  if (posix_memalign(&block->memory, CROSSFARM_ALIGNMENT, bytes) != 0) {
    block->memory = NULL;
    return false;
  }
  block->bytes = bytes;
  workspace->held_bytes += bytes;
  if (workspace->held_bytes > workspace->peak_bytes) workspace->peak_bytes = workspace->held_bytes;
  return true;
}

static void *allocate(int device_type, int device_id, uint64_t bytes, int type_code, int type_bits) {
  (void)device_type, (void)device_id, (void)type_code, (void)type_bits;
  crossfarm_workspace *workspace = crossfarm_current.workspace;
  if (workspace == NULL) {
    (void)crossfarm_fail(CROSSFARM_MODEL_FAILED, "workspace asked for outside of a run");
    return NULL;
  }
  if (bytes > SIZE_MAX / 2) {
    (void)crossfarm_fail(CROSSFARM_MACHINE_FAILED, "out of memory: %llu bytes of workspace", (unsigned long long)bytes);
    return NULL;
  }
  const size_t size = bytes == 0 ? PAGE_BYTES : ((size_t)bytes + PAGE_BYTES - 1) / PAGE_BYTES * PAGE_BYTES;
  crossfarm_workspace_block *block = find_fitting(workspace, size);
  if (block == NULL) {
    block = find_growable(workspace);
    if (block == NULL) {
      (void)crossfarm_fail(CROSSFARM_MODEL_FAILED, "more than %u workspaces in use at once",
                           CROSSFARM_WORKSPACE_BLOCKS);
      return NULL;
    }
    if (!grow(workspace, block, size)) {
      (void)crossfarm_fail(CROSSFARM_MACHINE_FAILED, "out of memory: %zu bytes of workspace", size);
      return NULL;
    }
  }
  block->in_use = true;
  return block->memory;
}

static int release(int device_type, int device_id, void *memory) {
  (void)device_type, (void)device_id;
  crossfarm_workspace *workspace = crossfarm_current.workspace;
  if (workspace != NULL) {
    for (unsigned i = 0; i < CROSSFARM_WORKSPACE_BLOCKS; ++i) {
      crossfarm_workspace_block *block = &workspace->blocks[i];
      if (block->in_use && block->memory == memory) {
        block->in_use = false;
        return 0;
      }
    }
  }
  (void)crossfarm_fail(CROSSFARM_MODEL_FAILED, "a workspace was released that is not in use");
  return -1;
}

void *(*__TVMBackendAllocWorkspace)(int, int, uint64_t, int, int) = allocate;
int (*__TVMBackendFreeWorkspace)(int, int, void *) = release;

/* Code that fails returns without releasing what it took. */
void crossfarm_workspace_reset(crossfarm_workspace *workspace) {
  for (unsigned i = 0; i < CROSSFARM_WORKSPACE_BLOCKS; ++i) workspace->blocks[i].in_use = false;
}

void crossfarm_workspace_close(crossfarm_workspace *workspace) {
  for (unsigned i = 0; i < CROSSFARM_WORKSPACE_BLOCKS; ++i) free(workspace->blocks[i].memory);
  *workspace = (crossfarm_workspace){0};
}
