/* Holds the rounding functions of runner/mcu/library against those of this machine's C library, bit for bit. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#define CROSSFARM_FALLBACK static
#define floorf ours_floorf
#define ceilf ours_ceilf
#define truncf ours_truncf
#define roundf ours_roundf
#define rintf ours_rintf
#define nearbyintf ours_nearbyintf
#define roundevenf ours_roundevenf
#include "rounding.c"
#undef floorf
#undef ceilf
#undef truncf
#undef roundf
#undef rintf
#undef nearbyintf
#undef roundevenf

static uint32_t bits_of(float value) {
  uint32_t bits;
  memcpy(&bits, &value, sizeof bits);
  return bits;
}

static int differ(const char *name, float given, float ours, float theirs) {
  if (bits_of(ours) == bits_of(theirs) || (ours != ours && theirs != theirs)) return 0;
  printf("%s(%a) is %a, not %a\n", name, (double)given, (double)ours, (double)theirs);
  return 1;
}

int main(void) {
  int wrong = 0;
  uint64_t count = 0;
  for (uint64_t bits = 0; bits < (1ull << 32) && wrong < 10; bits += bits % 3 == 0 ? 1 : 1021, ++count) {
    number given = {.bits = (uint32_t)bits};
    const float x = given.value;
    wrong += differ("floorf", x, ours_floorf(x), floorf(x)) + differ("ceilf", x, ours_ceilf(x), ceilf(x));
    wrong += differ("truncf", x, ours_truncf(x), truncf(x)) + differ("roundf", x, ours_roundf(x), roundf(x));
    wrong += differ("rintf", x, ours_rintf(x), rintf(x)) + differ("nearbyintf", x, ours_nearbyintf(x), nearbyintf(x));
    wrong += differ("roundevenf", x, ours_roundevenf(x), rintf(x));
  }
  for (int whole = -4096; whole <= 4096; ++whole) {
    const float x = (float)whole / 2;
    wrong += differ("roundf", x, ours_roundf(x), roundf(x)) + differ("rintf", x, ours_rintf(x), rintf(x));
  }
  printf("%llu values\n", (unsigned long long)count);
  return wrong > 0;
}
