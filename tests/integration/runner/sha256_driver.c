/* Hashes standard input, in pieces of the size that argument 1 gives, and prints the digest. */
#include <stdio.h>
#include <stdlib.h>

#include "sha256.h"

int main(int count, char **arguments) {
  static unsigned char piece[100000];
  const size_t size = count > 1 ? strtoul(arguments[1], NULL, 10) : sizeof piece;
  crossfarm_sha256 hash;
  crossfarm_sha256_start(&hash);
  for (size_t got; (got = fread(piece, 1, size, stdin)) > 0;) crossfarm_sha256_add(&hash, piece, got);
  char hex[65];
  crossfarm_sha256_end(&hash, hex);
  puts(hex);
  return 0;
}
