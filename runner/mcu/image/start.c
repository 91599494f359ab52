/* What stands before main on a Cortex-M: vectors, the floating-point unit, and memory as C expects it. */
#include <stddef.h>
#include <stdint.h>

#include "image.h"
#include "semihosting.h"

extern uint32_t image_stack_bottom[], image_stack_top[];
extern uint32_t image_data_start[], image_data_end[], image_bss_start[], image_bss_end[];
extern const uint32_t image_data_load[];

#define CPACR (*(volatile uint32_t *)0xE000ED88u)
#define FULL_ACCESS_TO_FLOATS (0xFu << 20)
#define PAINT 0xA5C35A3Cu

enum { LEFT_BELOW = 64 }; /* words below the frame of the function that paints */

void *memcpy(void *to, const void *from, size_t bytes) {
  unsigned char *written = to;
  const unsigned char *read = from;
  while (bytes-- > 0) *written++ = *read++;
  return to;
}

void *memset(void *to, int value, size_t bytes) {
  unsigned char *written = to;
  while (bytes-- > 0) *written++ = (unsigned char)value;
  return to;
}

/* Unwinding tables name it; nothing unwinds here. */
void __aeabi_unwind_cpp_pr0(void);
void __aeabi_unwind_cpp_pr0(void) {}
void __aeabi_unwind_cpp_pr1(void);
void __aeabi_unwind_cpp_pr1(void) {}

void stack_paint(void) {
  uint32_t *here = (uint32_t *)__builtin_frame_address(0) - LEFT_BELOW;
  for (volatile uint32_t *word = image_stack_bottom; word < here; ++word) *word = PAINT;
}

uint32_t stack_peak_bytes(void) {
  const uint32_t *word = image_stack_bottom;
  while (word < image_stack_top && *word == PAINT) ++word;
  return (uint32_t)((const char *)image_stack_top - (const char *)word);
}

_Noreturn void _start(void);
_Noreturn void _start(void) {
  CPACR |= FULL_ACCESS_TO_FLOATS;
  __asm__ volatile("dsb\n\tisb" ::: "memory");
  const uint32_t *from = image_data_load;
  for (uint32_t *to = image_data_start; to < image_data_end;) *to++ = *from++;
  for (uint32_t *to = image_bss_start; to < image_bss_end;) *to++ = 0;
  host_exit(image_main());
}

_Noreturn static void fault(void) {
  host_say("the processor faulted: an address that is not there, or an instruction that it lacks\n");
  host_exit(IMAGE_CRASHED);
}

_Static_assert(sizeof(void *) == 4, "a Cortex-M has addresses of 32 bits");

/* Stack, reset, then NMI and the faults (Armv7-M Architecture Reference Manual, B1.5.2). */
__attribute__((section(".vectors"), used)) static const void *const vectors[16] = {
    image_stack_top, (const void *)_start, (const void *)fault, (const void *)fault,
    (const void *)fault, (const void *)fault,   (const void *)fault,
};
