/* The last error of each thread, and the functions through which compiled code raises one. */
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "runtime.h"

static _Thread_local crossfarm_error last_error;

crossfarm_error *crossfarm_last_error(void) { return &last_error; }

const char *crossfarm_model_error_text(void) { return last_error.text; }

/* Names and messages come from files too: a line break in one of them may not forge a second line of a log. */
static void make_one_line(char *text) {
  for (; *text != '\0'; ++text) {
    if ((unsigned char)*text < 0x20 || *text == 0x7f) *text = ' ';
  }
}

crossfarm_status crossfarm_fail(crossfarm_status status, const char *format, ...) {
  /* Arguments may point into the last error, so the new text is made beside it. */
  char text[sizeof last_error.text];
  va_list arguments;
  va_start(arguments, format);
  (void)vsnprintf(text, sizeof text, format, arguments);
  va_end(arguments);
  make_one_line(text);
  memcpy(last_error.text, text, sizeof text);
  last_error.status = status;
  return status;
}

void TVMFFIErrorSetRaisedFromCStrParts(const char *kind, const char **parts, int32_t count) {
  char message[sizeof last_error.text];
  size_t used = 0;
  for (int32_t i = 0; i < count; ++i) {
    if (parts[i] == NULL) continue; /* the interface allows it */
    size_t length = strlen(parts[i]);
    if (length > sizeof message - 1 - used) length = sizeof message - 1 - used;
    memcpy(message + used, parts[i], length);
    used += length;
  }
  message[used] = '\0';
  (void)crossfarm_fail(CROSSFARM_MODEL_FAILED, "%s: %s", kind != NULL ? kind : "Error", message);
}

void TVMFFIErrorSetRaisedFromCStr(const char *kind, const char *message) {
  TVMFFIErrorSetRaisedFromCStrParts(kind, &message, 1);
}
