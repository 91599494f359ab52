/* Loads two shared libraries, which define the same names, into one process and runs both with threads.
 * Arguments: library and weights file of each. Prints the name and the first share of each. */
#include <dlfcn.h>
#include <stdio.h>
#include <string.h>

#include "model.h"

typedef struct {
  crossfarm_status (*open)(const char *, const crossfarm_model_options *, crossfarm_model **);
  crossfarm_status (*run)(crossfarm_model *, const void *const[], void *const[]);
  const char *(*name)(void);
  const char *(*error_text)(void);
  void (*close)(crossfarm_model *);
  crossfarm_model *model;
} library;

static void *find(void *handle, const char *name) {
  void *symbol = dlsym(handle, name);
  if (symbol == NULL) fprintf(stderr, "%s\n", dlerror());
  return symbol;
}

static int load(const char *path, const char *weights, library *loaded) {
  void *handle = dlopen(path, RTLD_NOW | RTLD_GLOBAL); /* the hard case: names of the first are seen by the second */
  if (handle == NULL) {
    fprintf(stderr, "%s\n", dlerror());
    return 0;
  }
  *(void **)&loaded->open = find(handle, "crossfarm_model_open");
  *(void **)&loaded->run = find(handle, "crossfarm_model_run");
  *(void **)&loaded->name = find(handle, "crossfarm_model_name");
  *(void **)&loaded->error_text = find(handle, "crossfarm_model_error_text");
  *(void **)&loaded->close = find(handle, "crossfarm_model_close");
  const crossfarm_model_options options = {.threads = 2};
  if (loaded->open(weights, &options, &loaded->model) == CROSSFARM_GOOD) return 1;
  fprintf(stderr, "%s\n", loaded->error_text());
  return 0;
}

int main(int count, char **arguments) {
  library loaded[2] = {0};
  if (count != 5) return 2;
  for (int i = 0; i < 2; ++i) {
    if (!load(arguments[1 + 2 * i], arguments[2 + 2 * i], &loaded[i])) return 3;
  }
  const float values[16] = {1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1};
  for (int i = 0; i < 2; ++i) {
    float share[16], weights[16];
    int32_t command = 0, echo;
    const void *inputs[] = {values, &command};
    void *outputs[] = {share, &echo, weights};
    if (loaded[i].run(loaded[i].model, inputs, outputs) != CROSSFARM_GOOD) return 4;
    printf("%s %.6f %.2f\n", loaded[i].name(), (double)share[15], (double)weights[15]);
  }
  for (int i = 0; i < 2; ++i) loaded[i].close(loaded[i].model);
  return 0;
}
