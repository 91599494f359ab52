/* Processors like the Cortex-M4 have no instruction that rounds a float to a whole number. LLVM then calls these functions of a
 * C library; a firmware that has one of its own keeps that, because these are weak.
 *
 * Each is exact: floats of 2^23 and more are whole, and others have their fraction in the low bits of their mantissa. */
#include <stdint.h>

#ifndef CROSSFARM_FALLBACK
#define CROSSFARM_FALLBACK __attribute__((weak, visibility("hidden")))
#endif

CROSSFARM_FALLBACK float floorf(float value);
CROSSFARM_FALLBACK float ceilf(float value);
CROSSFARM_FALLBACK float truncf(float value);
CROSSFARM_FALLBACK float roundf(float value);
CROSSFARM_FALLBACK float rintf(float value);
CROSSFARM_FALLBACK float nearbyintf(float value);
CROSSFARM_FALLBACK float roundevenf(float value);

#define SIGN 0x80000000u
#define ONE 0x3F800000u

typedef union {
  float value;
  uint32_t bits;
} number;

/* The bits of the mantissa that are a fraction; all ones for a value below 1. */
static uint32_t fraction_mask(uint32_t bits) {
  const uint32_t exponent = bits >> 23 & 0xFFu;
  if (exponent >= 127 + 23) return 0; /* infinities and NaN too */
  return exponent < 127 ? ~SIGN : 0x007FFFFFu >> (exponent - 127);
}

static float without_fraction(float value) {
  number cut = {.value = value};
  cut.bits &= ~fraction_mask(cut.bits);
  return cut.value;
}

static float away_by_one(float value) {
  const number given = {.value = value}, step = {.bits = ONE | (given.bits & SIGN)};
  return value + step.value;
}

static int is_cut(float value) {
  const number given = {.value = value};
  return (given.bits & fraction_mask(given.bits)) != 0;
}

float truncf(float value) { return without_fraction(value); }

float floorf(float value) {
  const number given = {.value = value};
  const float cut = without_fraction(value);
  return (given.bits & SIGN) != 0 && is_cut(value) ? away_by_one(cut) : cut;
}

float ceilf(float value) {
  const number given = {.value = value};
  const float cut = without_fraction(value);
  return (given.bits & SIGN) == 0 && is_cut(value) ? away_by_one(cut) : cut;
}

/* The distance to the value without its fraction is exact. */
static float distance(float value, float cut) { return value < cut ? cut - value : value - cut; }

float roundf(float value) {
  const float cut = without_fraction(value);
  return is_cut(value) && distance(value, cut) >= 0.5f ? away_by_one(cut) : cut;
}

float roundevenf(float value) {
  const float cut = without_fraction(value);
  if (!is_cut(value)) return cut;
  const float left = distance(value, cut);
  const float size = cut < 0 ? -cut : cut;
  const int is_odd = ((uint32_t)size & 1u) != 0; /* below 2^23, since there is a fraction */
  return left > 0.5f || (left == 0.5f && is_odd) ? away_by_one(cut) : cut;
}

float rintf(float value) { return roundevenf(value); }

float nearbyintf(float value) { return roundevenf(value); }
