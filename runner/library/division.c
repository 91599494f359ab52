/* Processors like the ARM1176 cannot divide. LLVM then calls these functions by the names that they have everywhere but on
 * ARM, where C libraries offer the names of ARM's own convention alone; the compiler of this file calls those. */
#include <stdint.h>

#if defined(__arm__)
#define CROSSFARM_FALLBACK __attribute__((weak, visibility("hidden")))

CROSSFARM_FALLBACK int32_t __divsi3(int32_t dividend, int32_t divisor);
CROSSFARM_FALLBACK int32_t __modsi3(int32_t dividend, int32_t divisor);
CROSSFARM_FALLBACK uint32_t __udivsi3(uint32_t dividend, uint32_t divisor);
CROSSFARM_FALLBACK uint32_t __umodsi3(uint32_t dividend, uint32_t divisor);

int32_t __divsi3(int32_t dividend, int32_t divisor) { return dividend / divisor; }
int32_t __modsi3(int32_t dividend, int32_t divisor) { return dividend % divisor; }
uint32_t __udivsi3(uint32_t dividend, uint32_t divisor) { return dividend / divisor; }
uint32_t __umodsi3(uint32_t dividend, uint32_t divisor) { return dividend % divisor; }
#else
typedef int crossfarm_this_processor_divides; /* a file must declare something */
#endif
