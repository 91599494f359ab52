/* The threads of a handle, and the parallel launches of compiled code that they serve.
 *
 * A launch hands its job to the workers by counting `generation` up. The calling thread works too, then waits until
 * `pending` has come down to nought. Both sides look at the counter for SPIN_NANOSECONDS before they go to sleep: the
 * parallel loops of a model follow each other closely, and waking a sleeping thread takes longer than most of them.
 * Who goes to sleep first announces it, then looks at the counter once more; who counts looks for sleepers afterwards.
 * All of that is sequentially consistent, so no wake-up is lost.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "runtime.h"

enum {
  SPIN_NANOSECONDS = 50000,    /* about what waking a thread takes on a slow board */
  LOOKS_BETWEEN_CLOCKS = 64,   /* reading the clock is a system call on some boards */
  STACK_BYTES = 1024 * 1024,   /* the default lies between 128 KB and 8 MB, depending on the C library */
};

typedef struct {
  crossfarm_pool *pool;
  unsigned index; /* 1 for the first worker: 0 is the calling thread */
  bool has_processor;
  unsigned processor;
  pthread_t thread;
  crossfarm_workspace workspace;
} worker;

typedef struct {
  atomic_uint arrived;
  atomic_uint phase;
} barrier;

typedef struct {
  crossfarm_parallel_function function;
  void *data;
  unsigned tasks;
  barrier barrier;
} job;

struct crossfarm_pool {
  _Alignas(CROSSFARM_ALIGNMENT) atomic_uint generation; /* counts launches */
  _Alignas(CROSSFARM_ALIGNMENT) atomic_uint pending;    /* workers that have not ended the current job */
  _Alignas(CROSSFARM_ALIGNMENT) atomic_uint sleepers;   /* workers that sleep or are about to */
  atomic_bool caller_sleeps;
  atomic_bool stopping;
  atomic_bool failed; /* a task of the current job returned an error */
  bool may_spin;
  unsigned worker_count;
  job job;
  crossfarm_error error; /* of the first task that failed; guarded by `mutex` */
  pthread_mutex_t mutex;
  pthread_cond_t launched;
  pthread_cond_t finished;
  worker workers[];
};

_Thread_local crossfarm_context crossfarm_current;

static void relax_processor(void) {
#if defined(__x86_64__) || defined(__i386__)
  __builtin_ia32_pause();
#elif defined(__aarch64__) || (defined(__ARM_ARCH) && __ARM_ARCH >= 7)
  __asm__ __volatile__("yield");
#endif
}

static uint64_t now_nanoseconds(void) {
  struct timespec now;
  (void)clock_gettime(CLOCK_MONOTONIC, &now);
  return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

/* Looks at `counter` for a while: until it equals `value`, or until it differs. False: not yet. */
static bool spin(const crossfarm_pool *pool, atomic_uint *counter, unsigned value, bool until_equal) {
  uint64_t deadline = 0;
  for (unsigned looks = 1;; ++looks) {
    if ((atomic_load_explicit(counter, memory_order_acquire) == value) == until_equal) return true;
    if (!pool->may_spin) return false;
    relax_processor();
    if (looks % LOOKS_BETWEEN_CLOCKS == 0) {
      const uint64_t now = now_nanoseconds();
      if (deadline == 0) deadline = now + SPIN_NANOSECONDS;
      if (now >= deadline) return false;
    }
  }
}

/* ---- tasks ---- */

static int wait_at_barrier(int task, crossfarm_parallel_group *group) {
  (void)task;
  crossfarm_pool *pool = group->sync_handle;
  if (group->num_task <= 1) return 0;
  if (pool == NULL || (unsigned)group->num_task > pool->worker_count + 1) {
    (void)crossfarm_fail(CROSSFARM_MODEL_FAILED, "a barrier over %d tasks needs as many threads", (int)group->num_task);
    return -1;
  }
  barrier *place = &pool->job.barrier;
  const unsigned phase = atomic_load(&place->phase);
  if (atomic_fetch_add(&place->arrived, 1) + 1 == (unsigned)group->num_task) {
    atomic_store(&place->arrived, 0);
    atomic_fetch_add(&place->phase, 1);
    return 0;
  }
  while (!spin(pool, &place->phase, phase, false)) {
    /* A task that has failed will never arrive. */
    if (atomic_load(&pool->failed)) return -1;
    (void)sched_yield();
  }
  return 0;
}

/* Tasks `first`, `first` + `step`, ... of the current job. */
static int run_tasks(crossfarm_parallel_function function, void *data, crossfarm_parallel_group *group, unsigned first,
                     unsigned step) {
  for (unsigned task = first; task < (unsigned)group->num_task; task += step) {
    if (function((int)task, group, data) != 0) return -1;
  }
  return 0;
}

static void keep_first_error(crossfarm_pool *pool) {
  (void)pthread_mutex_lock(&pool->mutex);
  if (!atomic_load(&pool->failed)) {
    pool->error = *crossfarm_last_error();
    atomic_store(&pool->failed, true);
  }
  (void)pthread_mutex_unlock(&pool->mutex);
}

static void run_share(crossfarm_pool *pool, unsigned index) {
  crossfarm_parallel_group group = {.sync_handle = pool, .num_task = (int32_t)pool->job.tasks};
  crossfarm_last_error()->status = CROSSFARM_GOOD;
  if (run_tasks(pool->job.function, pool->job.data, &group, index, pool->worker_count + 1) != 0) keep_first_error(pool);
}

/* ---- workers ---- */

static void wait_for_launch(crossfarm_pool *pool, unsigned seen) {
  if (spin(pool, &pool->generation, seen, false)) return;
  (void)pthread_mutex_lock(&pool->mutex);
  atomic_fetch_add(&pool->sleepers, 1);
  while (atomic_load(&pool->generation) == seen) (void)pthread_cond_wait(&pool->launched, &pool->mutex);
  atomic_fetch_sub(&pool->sleepers, 1);
  (void)pthread_mutex_unlock(&pool->mutex);
}

static void tell_done(crossfarm_pool *pool) {
  if (atomic_fetch_sub(&pool->pending, 1) != 1 || !atomic_load(&pool->caller_sleeps)) return;
  (void)pthread_mutex_lock(&pool->mutex);
  (void)pthread_cond_signal(&pool->finished);
  (void)pthread_mutex_unlock(&pool->mutex);
}

static void wait_for_workers(crossfarm_pool *pool) {
  if (spin(pool, &pool->pending, 0, true)) return;
  (void)pthread_mutex_lock(&pool->mutex);
  atomic_store(&pool->caller_sleeps, true);
  while (atomic_load(&pool->pending) != 0) (void)pthread_cond_wait(&pool->finished, &pool->mutex);
  atomic_store(&pool->caller_sleeps, false);
  (void)pthread_mutex_unlock(&pool->mutex);
}

static void settle(const worker *self) {
  if (!self->has_processor) return;
  cpu_set_t processors;
  CPU_ZERO(&processors);
  if (self->processor < CPU_SETSIZE) CPU_SET(self->processor, &processors);
  if (sched_setaffinity(0, sizeof processors, &processors) == 0) return;
  (void)crossfarm_fail(CROSSFARM_WRONG_USE, "processor %u cannot be used: %s", self->processor, strerror(errno));
  keep_first_error(self->pool);
}

static void *work(void *argument) {
  worker *self = argument;
  crossfarm_pool *pool = self->pool;
  crossfarm_current = (crossfarm_context){.pool = NULL, .workspace = &self->workspace};
  /* Starting counts as the first job: whoever opens the pool waits for it. */
  unsigned seen = 0;
  settle(self);
  for (;;) {
    tell_done(pool);
    wait_for_launch(pool, seen);
    ++seen;
    if (atomic_load(&pool->stopping)) return NULL;
    if (self->index < pool->job.tasks) run_share(pool, self->index);
  }
}

static void wake_workers(crossfarm_pool *pool) {
  atomic_fetch_add(&pool->generation, 1);
  if (atomic_load(&pool->sleepers) == 0) return;
  (void)pthread_mutex_lock(&pool->mutex);
  (void)pthread_cond_broadcast(&pool->launched);
  (void)pthread_mutex_unlock(&pool->mutex);
}

/* ---- launches ---- */

static int launch_on_pool(crossfarm_pool *pool, crossfarm_parallel_function function, void *data, unsigned tasks) {
  pool->job.function = function;
  pool->job.data = data;
  pool->job.tasks = tasks;
  atomic_store_explicit(&pool->job.barrier.arrived, 0, memory_order_relaxed);
  atomic_store_explicit(&pool->failed, false, memory_order_relaxed);
  atomic_store_explicit(&pool->pending, pool->worker_count, memory_order_relaxed);
  /* A launch inside of a task finds no pool and runs on its thread alone. */
  crossfarm_current.pool = NULL;
  wake_workers(pool);
  run_share(pool, 0);
  wait_for_workers(pool);
  crossfarm_current.pool = pool;
  if (!atomic_load(&pool->failed)) return 0;
  *crossfarm_last_error() = pool->error;
  return -1;
}

static int launch(crossfarm_parallel_function function, void *data, int task_count) {
  crossfarm_pool *pool = crossfarm_current.pool;
  const unsigned threads = pool == NULL ? 1 : pool->worker_count + 1;
  const unsigned tasks = task_count > 0 ? (unsigned)task_count : threads;
  if (threads > 1 && tasks > 1) return launch_on_pool(pool, function, data, tasks);
  crossfarm_parallel_group group = {.sync_handle = NULL, .num_task = (int32_t)tasks};
  return run_tasks(function, data, &group, 0, 1);
}

int (*__TVMBackendParallelLaunch)(crossfarm_parallel_function, void *, int) = launch;
int (*__TVMBackendParallelBarrier)(int, crossfarm_parallel_group *) = wait_at_barrier;

/* ---- life of a pool ---- */

static unsigned available_processors(void) {
  cpu_set_t processors;
  if (sched_getaffinity(0, sizeof processors, &processors) != 0) return 1;
  return (unsigned)CPU_COUNT(&processors);
}

/* Workers wait, with nothing to wait for, when they only take the processor from each other. */
static bool spinning_pays(const crossfarm_model_options *options, unsigned threads) {
  const unsigned room = options->processor_count > 0 ? options->processor_count : available_processors();
  return threads <= room;
}

static crossfarm_status start_worker(worker *self) {
  pthread_attr_t attributes;
  int fault = pthread_attr_init(&attributes);
  if (fault == 0) {
    (void)pthread_attr_setstacksize(&attributes, STACK_BYTES);
    fault = pthread_create(&self->thread, &attributes, work, self);
    (void)pthread_attr_destroy(&attributes);
  }
  if (fault == 0) return CROSSFARM_GOOD;
  return crossfarm_fail(CROSSFARM_MACHINE_FAILED, "thread %u cannot be started: %s", self->index, strerror(fault));
}

/* Starts up to `count` workers; `worker_count` says how many there are. Signals stay with the threads of the user. */
static crossfarm_status start_workers(crossfarm_pool *pool, unsigned count, const crossfarm_model_options *options) {
  sigset_t all, before;
  (void)sigfillset(&all);
  (void)pthread_sigmask(SIG_SETMASK, &all, &before);
  crossfarm_status status = CROSSFARM_GOOD;
  unsigned started = 0;
  for (; started < count && status == CROSSFARM_GOOD; ++started) {
    worker *self = &pool->workers[started];
    self->pool = pool;
    self->index = started + 1;
    self->has_processor = options->processor_count > 0;
    if (self->has_processor) self->processor = options->processors[self->index % options->processor_count];
    status = start_worker(self);
    if (status != CROSSFARM_GOOD) break;
  }
  (void)pthread_sigmask(SIG_SETMASK, &before, NULL);
  pool->worker_count = started;
  return status;
}

crossfarm_status crossfarm_pool_open(const crossfarm_model_options *options, crossfarm_pool **result) {
  *result = NULL;
  const unsigned count = options->threads > 0 ? options->threads - 1 : 0;
  if (count == 0) return CROSSFARM_GOOD;
  crossfarm_pool *pool;
  const size_t size = sizeof *pool + count * sizeof(worker);
  void *memory;
  if (posix_memalign(&memory, CROSSFARM_ALIGNMENT, size) != 0)
    return crossfarm_fail(CROSSFARM_MACHINE_FAILED, "out of memory: %zu bytes for threads", size);
  memset(memory, 0, size);
  pool = memory;
  pool->may_spin = spinning_pays(options, options->threads);
  (void)pthread_mutex_init(&pool->mutex, NULL);
  (void)pthread_cond_init(&pool->launched, NULL);
  (void)pthread_cond_init(&pool->finished, NULL);
  atomic_store(&pool->pending, count);
  crossfarm_status status = start_workers(pool, count, options);
  atomic_fetch_sub(&pool->pending, count - pool->worker_count);
  wait_for_workers(pool);
  if (status == CROSSFARM_GOOD && atomic_load(&pool->failed)) {
    *crossfarm_last_error() = pool->error;
    status = pool->error.status;
  }
  if (status != CROSSFARM_GOOD) {
    crossfarm_pool_close(pool);
    return status;
  }
  *result = pool;
  return CROSSFARM_GOOD;
}

void crossfarm_pool_reset(crossfarm_pool *pool) {
  if (pool == NULL) return;
  for (unsigned i = 0; i < pool->worker_count; ++i) crossfarm_workspace_reset(&pool->workers[i].workspace);
}

size_t crossfarm_pool_workspace_peak_bytes(const crossfarm_pool *pool) {
  size_t bytes = 0;
  for (unsigned i = 0; pool != NULL && i < pool->worker_count; ++i) bytes += pool->workers[i].workspace.peak_bytes;
  return bytes;
}

void crossfarm_pool_close(crossfarm_pool *pool) {
  if (pool == NULL) return;
  atomic_store(&pool->stopping, true);
  wake_workers(pool);
  for (unsigned i = 0; i < pool->worker_count; ++i) {
    (void)pthread_join(pool->workers[i].thread, NULL);
    crossfarm_workspace_close(&pool->workers[i].workspace);
  }
  (void)pthread_cond_destroy(&pool->finished);
  (void)pthread_cond_destroy(&pool->launched);
  (void)pthread_mutex_destroy(&pool->mutex);
  free(pool);
}
