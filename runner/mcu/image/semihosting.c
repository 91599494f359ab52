#include "semihosting.h"

enum {
  SYS_OPEN = 0x01,
  SYS_WRITE0 = 0x04,
  SYS_WRITE = 0x05,
  SYS_READ = 0x06,
  SYS_FLEN = 0x0C,
  SYS_GET_CMDLINE = 0x15,
  SYS_EXIT_EXTENDED = 0x20,
};

enum { MODE_READ_BINARY = 1, MODE_WRITE_BINARY = 5 };

#define APPLICATION_EXIT 0x20026u /* ADP_Stopped_ApplicationExit */

static uint32_t length_of(const char *text) {
  uint32_t length = 0;
  while (text[length] != '\0') ++length;
  return length;
}

static int32_t ask(uint32_t operation, const void *block) {
  register uint32_t r0 __asm__("r0") = operation;
  register const void *r1 __asm__("r1") = block;
  __asm__ volatile("bkpt 0xab" : "+r"(r0) : "r"(r1) : "memory");
  return (int32_t)r0;
}

static uint32_t address(const void *memory) { return (uint32_t)(uintptr_t)memory; }

int host_open(const char *path, bool writes) {
  const uint32_t block[] = {address(path), writes ? MODE_WRITE_BINARY : MODE_READ_BINARY, length_of(path)};
  return (int)ask(SYS_OPEN, block);
}

/* Both say how many bytes are left over. */
static bool transfer(uint32_t operation, int file, const void *memory, size_t bytes) {
  const uint32_t block[] = {(uint32_t)file, address(memory), (uint32_t)bytes};
  return bytes == 0 || ask(operation, block) == 0;
}

bool host_read(int file, void *to, size_t bytes) { return transfer(SYS_READ, file, to, bytes); }

bool host_write(int file, const void *from, size_t bytes) { return transfer(SYS_WRITE, file, from, bytes); }

int32_t host_size(int file) {
  const uint32_t block[] = {(uint32_t)file};
  return ask(SYS_FLEN, block);
}

bool host_command_line(char *text, size_t bytes) {
  const uint32_t block[] = {address(text), (uint32_t)bytes};
  return ask(SYS_GET_CMDLINE, block) == 0;
}

void host_say(const char *text) { (void)ask(SYS_WRITE0, text); }

_Noreturn void host_exit(int code) {
  const uint32_t block[] = {APPLICATION_EXIT, (uint32_t)code};
  (void)ask(SYS_EXIT_EXTENDED, block);
  for (;;) continue;
}
