/* The command line of the program. Options are spelt in full, as `--name value` or `--name=value`. */
#include "options.h"

#include <string.h>

const char crossfarm_help[] =
    "usage: program BUNDLE_FOLDER [option...]\n"
    "\n"
    "Runs every case of the bundle once, then case 0 again and again, and says in JSON how long each run took.\n"
    "\n"
    "  --threads N       threads of the model, 1 to 256 (1)\n"
    "  --affinity LIST   thread k runs on the k-th of these processors: 0-3,6\n"
    "  --warmup N        untimed runs before the timed ones (1)\n"
    "  --repeat N        timed runs, 0 for none (10)\n"
    "  --cases N         run the first N cases only (all)\n"
    "  --outputs FOLDER  write the outputs of all cases to FOLDER/0.bin, FOLDER/1.bin, ...\n"
    "  --result FILE     write the result there instead of to standard output\n"
    "  --profile FILE    after each timed run, time every call of another run, and write those times there\n"
    "  --no-verify       do not compare the files with the digests of the manifest\n"
    "  --help            print this\n"
    "  --version         print which model and target this program was compiled for\n"
    "\n"
    "exit codes: 0 good, 2 wrong usage, 3 bad bundle, 4 the model's code failed, 5 the machine failed\n";

enum { MAXIMUM_RUNS = 10000000, MAXIMUM_PROCESSOR = 4095 };

/* Reads a decimal number and moves `*text` behind it. */
static bool read_number(const char **text, uint32_t maximum, uint32_t *value) {
  uint64_t number = 0;
  const char *at = *text;
  for (; *at >= '0' && *at <= '9'; ++at) {
    number = number * 10 + (uint64_t)(*at - '0');
    if (number > maximum) return false;
  }
  if (at == *text) return false;
  *text = at;
  *value = (uint32_t)number;
  return true;
}

static crossfarm_status read_count(const char *name, const char *text, uint32_t minimum, uint32_t maximum,
                                   uint32_t *value) {
  const char *at = text;
  if (read_number(&at, maximum, value) && *at == '\0' && *value >= minimum) return CROSSFARM_GOOD;
  return crossfarm_fail(CROSSFARM_WRONG_USE, "%s takes a number from %u to %u, not '%.80s'", name, minimum, maximum,
                        text);
}

/* One `5` or `0-3` of the list. */
static bool read_range(const char **text, crossfarm_options *options) {
  uint32_t first, last;
  if (!read_number(text, MAXIMUM_PROCESSOR, &first)) return false;
  last = first;
  if (**text == '-') {
    ++*text;
    if (!read_number(text, MAXIMUM_PROCESSOR, &last) || last < first) return false;
  }
  for (uint32_t processor = first; processor <= last; ++processor) {
    if (options->processor_count == CROSSFARM_MAX_THREADS) return false;
    options->processors[options->processor_count++] = processor;
  }
  return true;
}

static crossfarm_status read_affinity(const char *name, const char *text, crossfarm_options *options) {
  const char *at = text;
  options->processor_count = 0;
  while (read_range(&at, options)) {
    if (*at == '\0') return CROSSFARM_GOOD;
    if (*at != ',') break;
    ++at;
  }
  return crossfarm_fail(CROSSFARM_WRONG_USE, "%s takes a list of at most %u processors such as 0-3,6, not '%.80s'",
                        name, CROSSFARM_MAX_THREADS, text);
}

static crossfarm_status read_path(const char *name, const char *text, const char **path) {
  if (*text == '\0') return crossfarm_fail(CROSSFARM_WRONG_USE, "%s takes a path, not nothing", name);
  *path = text;
  return CROSSFARM_GOOD;
}

static bool is(const char *name, const char *known) { return strcmp(name, known) == 0; }

static crossfarm_status apply(const char *name, const char *value, crossfarm_options *options) {
  if (is(name, "--threads")) return read_count(name, value, 1, CROSSFARM_MAX_THREADS, &options->threads);
  if (is(name, "--affinity")) return read_affinity(name, value, options);
  if (is(name, "--warmup")) return read_count(name, value, 0, MAXIMUM_RUNS, &options->warmup);
  if (is(name, "--repeat")) return read_count(name, value, 0, MAXIMUM_RUNS, &options->repeat);
  if (is(name, "--cases")) return read_count(name, value, 1, MAXIMUM_RUNS, &options->cases);
  if (is(name, "--outputs")) return read_path(name, value, &options->outputs);
  if (is(name, "--profile")) return read_path(name, value, &options->profile);
  return read_path(name, value, &options->result);
}

static bool apply_flag(const char *name, crossfarm_options *options) {
  if (is(name, "--no-verify")) {
    options->verify = false;
  } else if (is(name, "--help")) {
    options->action = CROSSFARM_ACTION_HELP;
  } else if (is(name, "--version")) {
    options->action = CROSSFARM_ACTION_VERSION;
  } else {
    return false;
  }
  return true;
}

static const char *find_valued(const char *argument) {
  static const char *const names[] = {"--threads", "--affinity", "--warmup", "--repeat",
                                      "--cases",   "--outputs",  "--result", "--profile"};
  const size_t length = strcspn(argument, "=");
  for (size_t i = 0; i < sizeof names / sizeof *names; ++i) {
    if (strlen(names[i]) == length && memcmp(argument, names[i], length) == 0) return names[i];
  }
  return NULL;
}

crossfarm_status crossfarm_options_read(int count, char **arguments, crossfarm_options *options) {
  *options = (crossfarm_options){.verify = true, .threads = 1, .warmup = 1, .repeat = 10};
  for (int i = 1; i < count; ++i) {
    const char *argument = arguments[i];
    if (argument[0] != '-') {
      if (options->bundle != NULL)
        return crossfarm_fail(CROSSFARM_WRONG_USE, "one bundle at a time: '%.80s' is one too many", argument);
      const crossfarm_status status = read_path("BUNDLE_FOLDER", argument, &options->bundle);
      if (status != CROSSFARM_GOOD) return status;
      continue;
    }
    if (apply_flag(argument, options)) continue;
    const char *name = find_valued(argument);
    if (name == NULL) return crossfarm_fail(CROSSFARM_WRONG_USE, "unknown option '%.80s'; see --help", argument);
    const char *value = strchr(argument, '=');
    if (value != NULL) {
      ++value;
    } else if (++i < count) {
      value = arguments[i];
    } else {
      return crossfarm_fail(CROSSFARM_WRONG_USE, "%s lacks its value; see --help", name);
    }
    const crossfarm_status status = apply(name, value, options);
    if (status != CROSSFARM_GOOD) return status;
  }
  if (options->bundle == NULL && options->action == CROSSFARM_ACTION_RUN)
    return crossfarm_fail(CROSSFARM_WRONG_USE, "which bundle? see --help");
  return CROSSFARM_GOOD;
}
