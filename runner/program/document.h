/* JSON files that the program writes. */
#ifndef CROSSFARM_DOCUMENT_H
#define CROSSFARM_DOCUMENT_H

#include <stdint.h>
#include <stdio.h>

#include "model.h"

typedef void (*crossfarm_document_put)(FILE *file, const void *content);

/* Writes what `put` prints of `content` to a file, all of it or nothing; to standard output when `place` is NULL. */
crossfarm_status crossfarm_document_write(const char *place, crossfarm_document_put put, const void *content);

/* A string; a string with its name and a comma behind it; likewise a number. */
void crossfarm_put_text(FILE *file, const char *text);
void crossfarm_put_named_text(FILE *file, const char *name, const char *text);
void crossfarm_put_number(FILE *file, const char *name, uint64_t number);

#endif
