/* Measures how many float32 operations a second one core computes at most: multiply-adds of whole vectors that all stay
 * in registers, on more accumulators than latency times units need. Prints the best of several rounds, in operations a
 * second. */
#define _GNU_SOURCE
#include <stdint.h>
#include <stdio.h>
#include <time.h>

#if defined(__AVX512F__)
#define LANES 16
#elif defined(__AVX__)
#define LANES 8
#elif defined(__SSE2__) || defined(__ARM_NEON)
#define LANES 4
#else
#define LANES 1
#endif

/* Registers of the smallest sets (16) also hold the two factors. */
enum { ACCUMULATORS = 12, STEPS = 1000000, ROUNDS = 9 };

#if LANES == 1
typedef float vector;
#else
typedef float vector __attribute__((vector_size(LANES * sizeof(float))));
#endif

static double seconds(void) {
  struct timespec now;
  (void)clock_gettime(CLOCK_MONOTONIC, &now);
  return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

#define EACH(DO) DO(0) DO(1) DO(2) DO(3) DO(4) DO(5) DO(6) DO(7) DO(8) DO(9) DO(10) DO(11)
#define DECLARE(i) vector a##i = start + (float)(i);
#define STEP(i) a##i = a##i * factor + addend;
#define ADD(i) sum += a##i;

static vector work(vector start, vector factor, vector addend) {
  EACH(DECLARE)
  for (int32_t step = 0; step < STEPS; ++step) {
    EACH(STEP)
  }
  vector sum = {0};
  EACH(ADD)
  return sum;
}

int main(void) {
  /* Values that the compiler cannot know; the factor keeps the sums finite. */
  volatile float seed = 0.5f;
  double best = 1e30;
  vector kept = {0};
  for (int round = 0; round < ROUNDS; ++round) {
    const vector zero = {0};
    const double start = seconds();
    kept += work(zero + seed, zero + seed, zero + seed);
    const double taken = seconds() - start;
    if (taken < best) best = taken;
  }
  float values[LANES];
  __builtin_memcpy(values, &kept, sizeof values);
  if (values[0] < 0) return 1;
  return printf("%.6e\n", 2.0 * ACCUMULATORS * LANES * STEPS / best) < 0;
}
