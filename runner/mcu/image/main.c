/* Runs all cases of a bundle: reads INPUTS/K.bin, writes OUTPUTS/K.bin and a result as JSON.
 *
 * Command line: image INPUTS OUTPUTS RESULT. Each file K holds the tensors of all cases one behind the other.
 */
#include "image.h"
#include "model.h"
#include "semihosting.h"

enum { MOST_PORTS = 64, COMMAND_BYTES = 1024, GUARD_WORDS = 16, NANOSECONDS_PER_TICK = 40 };

#define GUARD 0x5EA1C0DEu

/* Timer 0 of the boards mps2-an386 and mps2-an500 counts down at 25 MHz. */
#define TIMER_CONTROL (*(volatile uint32_t *)0x40000000u)
#define TIMER_VALUE (*(volatile uint32_t *)0x40000004u)
#define TIMER_RELOAD (*(volatile uint32_t *)0x40000008u)

static struct {
  uint8_t arena[CROSSFARM_MODEL_ARENA_BYTES] __attribute__((aligned(CROSSFARM_MODEL_ALIGNMENT)));
  uint32_t guard[GUARD_WORDS];
} memory;

static char command[COMMAND_BYTES];
static const char *words[4];
static int input_files[MOST_PORTS], output_files[MOST_PORTS];

static int stop(int code, const char *text) {
  host_say(text);
  host_say("\n");
  return code;
}

/* ---- texts ---- */

static bool split_command(void) {
  if (!host_command_line(command, sizeof command)) return false;
  size_t count = 0;
  for (char *place = command; *place != '\0' && count < 4;) {
    words[count++] = place;
    while (*place != '\0' && *place != ' ') ++place;
    if (*place == ' ') *place++ = '\0';
  }
  return count == 4;
}

static char *put_text(char *place, const char *text) {
  while (*text != '\0') *place++ = *text++;
  return place;
}

static char *put_number(char *place, uint64_t number) {
  char digits[20];
  size_t count = 0;
  do {
    digits[count++] = (char)('0' + number % 10);
    number /= 10;
  } while (number > 0);
  while (count > 0) *place++ = digits[--count];
  return place;
}

static bool say_number(int file, const char *before, uint64_t number) {
  char text[64];
  char *end = put_number(put_text(text, before), number);
  return host_write(file, text, (size_t)(end - text));
}

/* ---- files ---- */

static int open_numbered(const char *folder, size_t number, bool writes) {
  char path[COMMAND_BYTES + 32];
  char *end = put_text(put_number(put_text(put_text(path, folder), "/"), number), ".bin");
  *end = '\0';
  return host_open(path, writes);
}

/* Opens all files, and says how many cases the inputs hold; a model without inputs has one. */
static bool open_files(uint32_t *cases) {
  *cases = 1;
  crossfarm_port port;
  for (size_t i = 0; crossfarm_model_input(i, &port); ++i) {
    if (i == MOST_PORTS || (input_files[i] = open_numbered(words[1], i, false)) < 0) return false;
    const int32_t size = host_size(input_files[i]);
    if (size < 0 || port.bytes == 0 || (uint32_t)size % port.bytes != 0) return false;
    if (i > 0 && (uint32_t)size / port.bytes != *cases) return false;
    *cases = (uint32_t)size / (uint32_t)port.bytes;
  }
  for (size_t i = 0; crossfarm_model_output(i, &port); ++i) {
    if (i == MOST_PORTS || (output_files[i] = open_numbered(words[2], i, true)) < 0) return false;
  }
  return true;
}

static bool read_inputs(crossfarm_model *model) {
  crossfarm_port port;
  for (size_t i = 0; crossfarm_model_input(i, &port); ++i) {
    if (!host_read(input_files[i], crossfarm_model_input_memory(model, i), port.bytes)) return false;
  }
  return true;
}

static bool write_outputs(const crossfarm_model *model) {
  crossfarm_port port;
  for (size_t i = 0; crossfarm_model_output(i, &port); ++i) {
    if (!host_write(output_files[i], crossfarm_model_output_memory(model, i), port.bytes)) return false;
  }
  return true;
}

static bool is_guarded(void) {
  for (size_t i = 0; i < GUARD_WORDS; ++i) {
    if (memory.guard[i] != GUARD) return false;
  }
  return true;
}

/* ---- run ---- */

static int run_cases(crossfarm_model *model, uint32_t cases, int result) {
  if (!host_write(result, "{\"nanoseconds\": [", 17)) return stop(IMAGE_HOST_FAILED, "the result cannot be written");
  for (uint32_t i = 0; i < cases; ++i) {
    if (!read_inputs(model)) return stop(IMAGE_BAD_BUNDLE, "an input ends before its last case");
    const uint32_t start = TIMER_VALUE;
    if (crossfarm_model_run(model, NULL, NULL) != CROSSFARM_GOOD)
      return stop(CROSSFARM_MODEL_FAILED, crossfarm_model_error_text());
    const uint32_t ticks = start - TIMER_VALUE;
    if (!is_guarded()) return stop(IMAGE_OVERRUN, "the model wrote behind its arena");
    if (!write_outputs(model) || !say_number(result, i > 0 ? ", " : "", (uint64_t)ticks * NANOSECONDS_PER_TICK))
      return stop(IMAGE_HOST_FAILED, "an output cannot be written");
  }
  const bool said = say_number(result, "], \"workspace_peak_bytes\": ", crossfarm_model_workspace_peak_bytes(model)) &&
                    say_number(result, ", \"stack_peak_bytes\": ", stack_peak_bytes()) && host_write(result, "}\n", 2);
  return said ? CROSSFARM_GOOD : stop(IMAGE_HOST_FAILED, "the result cannot be written");
}

int image_main(void) {
  if (!split_command()) return stop(CROSSFARM_WRONG_USE, "the command line is: image INPUTS OUTPUTS RESULT");
  for (size_t i = 0; i < GUARD_WORDS; ++i) memory.guard[i] = GUARD;
  crossfarm_model *model;
  if (crossfarm_model_open(memory.arena, sizeof memory.arena, &model) != CROSSFARM_GOOD)
    return stop(CROSSFARM_WRONG_USE, crossfarm_model_error_text());
  uint32_t cases;
  if (!open_files(&cases)) return stop(IMAGE_BAD_BUNDLE, "the inputs of the bundle are not those of the model");
  const int result = host_open(words[3], true);
  if (result < 0) return stop(IMAGE_HOST_FAILED, "the result cannot be written");
  TIMER_RELOAD = UINT32_MAX;
  TIMER_VALUE = UINT32_MAX;
  TIMER_CONTROL = 1;
  stack_paint();
  return run_cases(model, cases, result);
}
