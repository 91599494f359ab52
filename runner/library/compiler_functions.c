/* What a processor does by no single instruction, LLVM calls by the names that these functions have everywhere but on ARM,
 * where C libraries offer the names of ARM's own convention alone; the compiler of this file calls those: division where
 * there is none (ARM1176), and integers of 64 bits. */
#include <stdint.h>

#if defined(__arm__)
#define CROSSFARM_FALLBACK __attribute__((weak, visibility("hidden")))

CROSSFARM_FALLBACK int32_t __divsi3(int32_t dividend, int32_t divisor);
CROSSFARM_FALLBACK int32_t __modsi3(int32_t dividend, int32_t divisor);
CROSSFARM_FALLBACK uint32_t __udivsi3(uint32_t dividend, uint32_t divisor);
CROSSFARM_FALLBACK uint32_t __umodsi3(uint32_t dividend, uint32_t divisor);
CROSSFARM_FALLBACK int64_t __divdi3(int64_t dividend, int64_t divisor);
CROSSFARM_FALLBACK int64_t __moddi3(int64_t dividend, int64_t divisor);
CROSSFARM_FALLBACK uint64_t __udivdi3(uint64_t dividend, uint64_t divisor);
CROSSFARM_FALLBACK uint64_t __umoddi3(uint64_t dividend, uint64_t divisor);
CROSSFARM_FALLBACK float __floatdisf(int64_t value);
CROSSFARM_FALLBACK float __floatundisf(uint64_t value);
CROSSFARM_FALLBACK double __floatdidf(int64_t value);
CROSSFARM_FALLBACK double __floatundidf(uint64_t value);
CROSSFARM_FALLBACK int64_t __fixsfdi(float value);
CROSSFARM_FALLBACK uint64_t __fixunssfdi(float value);
CROSSFARM_FALLBACK int64_t __fixdfdi(double value);
CROSSFARM_FALLBACK uint64_t __fixunsdfdi(double value);

int32_t __divsi3(int32_t dividend, int32_t divisor) { return dividend / divisor; }
int32_t __modsi3(int32_t dividend, int32_t divisor) { return dividend % divisor; }
uint32_t __udivsi3(uint32_t dividend, uint32_t divisor) { return dividend / divisor; }
uint32_t __umodsi3(uint32_t dividend, uint32_t divisor) { return dividend % divisor; }
int64_t __divdi3(int64_t dividend, int64_t divisor) { return dividend / divisor; }
int64_t __moddi3(int64_t dividend, int64_t divisor) { return dividend % divisor; }
uint64_t __udivdi3(uint64_t dividend, uint64_t divisor) { return dividend / divisor; }
uint64_t __umoddi3(uint64_t dividend, uint64_t divisor) { return dividend % divisor; }
float __floatdisf(int64_t value) { return (float)value; }
float __floatundisf(uint64_t value) { return (float)value; }
double __floatdidf(int64_t value) { return (double)value; }
double __floatundidf(uint64_t value) { return (double)value; }
int64_t __fixsfdi(float value) { return (int64_t)value; }
uint64_t __fixunssfdi(float value) { return (uint64_t)value; }
int64_t __fixdfdi(double value) { return (int64_t)value; }
uint64_t __fixunsdfdi(double value) { return (uint64_t)value; }
#else
typedef int crossfarm_this_processor_divides; /* a file must declare something */
#endif
