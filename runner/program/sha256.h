/* SHA-256 (FIPS 180-4). */
#ifndef CROSSFARM_SHA256_H
#define CROSSFARM_SHA256_H

#include <stddef.h>
#include <stdint.h>

typedef struct {
  uint32_t state[8];
  uint64_t bytes;
  uint8_t block[64];
} crossfarm_sha256;

void crossfarm_sha256_start(crossfarm_sha256 *hash);
void crossfarm_sha256_add(crossfarm_sha256 *hash, const void *data, size_t size);
/* Ends the hash and writes 64 lower-case hex digits and a terminator. */
void crossfarm_sha256_end(crossfarm_sha256 *hash, char hex[65]);

#endif
