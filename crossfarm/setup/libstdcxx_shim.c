/*
 * The two symbols of libstdc++ 13 that MERA's libraries want, for a host whose libstdc++ is older.
 *
 * It becomes a libstdc++.so.6 that needs a copy of the host's own under another name, where all other symbols stand.
 * crossfarm/setup/mera_libraries.py writes the version script.
 */
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

void library_init(void) __asm__("_ZSt21ios_base_library_initv");
void replace_cold(void *string, char *place, size_t old, const char *source, size_t count, size_t tail) __asm__(
    "_ZNSt7__cxx1112basic_stringIcSt11char_traitsIcESaIcEE15_M_replace_coldEPcmPKcmm");
extern void stream_init(void *self) __asm__("_ZNSt8ios_base4InitC1Ev");

/* std::ios_base_library_init(): the standard streams are there afterwards. std::ios_base::Init counts its objects; this
 * one is never destroyed, so that they stay. */
void library_init(void) {
  static char object;
  stream_init(&object);
}

/* std::string::_M_replace_cold: puts `count` characters of `source` in the place of `old` ones, behind which `tail` more
 * follow. `source` may lie within the string, so it is copied before anything moves. */
void replace_cold(void *string, char *place, size_t old, const char *source, size_t count, size_t tail) {
  (void)string;
  char *copy = count > 0 ? malloc(count) : NULL;
  if (count > 0 && copy == NULL) abort();
  if (count > 0) memcpy(copy, source, count);
  if (tail > 0 && old != count) memmove(place + count, place + old, tail);
  if (count > 0) memcpy(place, copy, count);
  free(copy);
}
