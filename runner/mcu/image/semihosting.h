/* Arm semihosting: how a program without an operating system asks its emulator for files and for its own end.
 *
 * Numbers and blocks of arguments as in "Semihosting for AArch32 and AArch64", release 2.0, chapter 6.
 */
#ifndef CROSSFARM_SEMIHOSTING_H
#define CROSSFARM_SEMIHOSTING_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Opens a file to read it, or empties it to write it; returns its handle, or -1. */
int host_open(const char *path, bool writes);

/* Reads or writes so many bytes; false when it cannot. */
bool host_read(int file, void *to, size_t bytes);
bool host_write(int file, const void *from, size_t bytes);

/* The bytes of an open file, or -1. */
int32_t host_size(int file);

/* Copies the command line into `text` of so many bytes, ended by a zero; false when it has no room. */
bool host_command_line(char *text, size_t bytes);

/* Writes to the emulator's own output. */
void host_say(const char *text);

/* Ends the emulator with an exit code. */
_Noreturn void host_exit(int code);

#endif
