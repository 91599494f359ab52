/* Calls the public functions as they should not be called. Argument: weights file. Prints what each says. */
#include <stdio.h>
#include <string.h>

#include "model.h"

static void try(const char *path, const crossfarm_model_options *options) {
  crossfarm_model *model = (crossfarm_model *)8;
  const crossfarm_status status = crossfarm_model_open(path, options, &model);
  printf("%d %s %s\n", (int)status, model == NULL ? "null" : "handle", crossfarm_model_error_text());
  if (status == CROSSFARM_GOOD) crossfarm_model_close(model);
}

int main(int count, char **arguments) {
  if (count != 2) return 2;
  printf("[%s]\n", crossfarm_model_error_text());
  try(NULL, NULL);
  try("missing.bin", NULL);
  try(".", NULL);
  try(arguments[1], &(crossfarm_model_options){.threads = 257});
  try(arguments[1], &(crossfarm_model_options){.threads = 2, .processor_count = 1});
  try(arguments[1], &(crossfarm_model_options){.threads = 4, .processor_count = 1, .processors = (unsigned[]){4000}});
  printf("%d\n", (int)crossfarm_model_open(arguments[1], NULL, NULL));
  crossfarm_model_close(NULL);
  crossfarm_model *model;
  if (crossfarm_model_open(arguments[1], NULL, &model) != CROSSFARM_GOOD) return 3;
  for (size_t i = 0; crossfarm_model_input(model, i) != NULL; ++i) {
    const crossfarm_port *port = crossfarm_model_input(model, i);
    printf("%s %s %d %zu\n", port->name, crossfarm_model_type_name(port->type), (int)port->rank, port->bytes);
  }
  for (size_t i = 0; crossfarm_model_output(model, i) != NULL; ++i) {
    const crossfarm_port *port = crossfarm_model_output(model, i);
    printf("%s %s %d %zu %s\n", port->name, crossfarm_model_type_name(port->type), (int)port->rank, port->bytes,
           port->shape == NULL ? "no shape" : "shape");
  }
  printf("%zu %zu\n", crossfarm_model_input_count(model), crossfarm_model_output_count(model));
  printf("%zu %zu\n", crossfarm_model_arena_bytes(model), crossfarm_model_weights_bytes(model));
  printf("%s %s\n", crossfarm_model_target(), crossfarm_model_type_name((crossfarm_type)0x999));
  crossfarm_model_close(model);
  return 0;
}
