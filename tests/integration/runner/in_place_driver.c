/* Runs the model in memory of the caller's own, then in the model's. Argument: weights file. Prints what differs. */
#include <stdio.h>
#include <string.h>

#include "model.h"

enum { COUNT = 16, RUNS = 3 };

int main(int count, char **arguments) {
  if (count != 2) return 2;
  crossfarm_model *model;
  if (crossfarm_model_open(arguments[1], NULL, &model) != CROSSFARM_GOOD) return 3;
  float *values = crossfarm_model_input_memory(model, 0);
  int32_t *command = crossfarm_model_input_memory(model, 1);
  void *inside[] = {crossfarm_model_output_memory(model, 0), crossfarm_model_output_memory(model, 1),
                    crossfarm_model_output_memory(model, 2)};
  if (crossfarm_model_input_memory(model, 2) != NULL || crossfarm_model_output_memory(model, 3) != NULL) return 4;
  for (int run = 0; run < RUNS; ++run) {
    float own_values[COUNT], share[COUNT], weights[COUNT];
    const int32_t own_command = 0;
    int32_t echo = -1;
    for (int i = 0; i < COUNT; ++i) own_values[i] = (float)(run + i % 7 + 1);
    const void *own[] = {own_values, &own_command};
    if (crossfarm_model_run(model, own, (void *[]){share, &echo, weights}) != CROSSFARM_GOOD) return 5;
    memcpy(values, own_values, sizeof own_values);
    *command = 0;
    if (crossfarm_model_run(model, (const void *[]){values, command}, inside) != CROSSFARM_GOOD) return 6;
    printf("%d %d %d\n", memcmp(inside[0], share, sizeof share), memcmp(inside[1], &echo, sizeof echo),
           memcmp(inside[2], weights, sizeof weights));
  }
  crossfarm_model_close(model);
  return 0;
}
