/* The command list of the array: read and checked, so that what runs it need check nothing again.
 *
 * crossfarm/backends/dpu/commands.py writes it. Numbers are little-endian and of 32 bits; addresses and lengths are in words
 * of `channels` bytes. */
#ifndef CROSSFARM_DPU_PROGRAM_H
#define CROSSFARM_DPU_PROGRAM_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

enum { DPU_LOAD = 1, DPU_WEIGHTS, DPU_SAVE, DPU_CONV, DPU_ALU, DPU_LAYER };
enum { DPU_MAX = 1, DPU_AVERAGE, DPU_ADD, DPU_DEPTHWISE, DPU_COPY, DPU_TABLE };
enum { DPU_BIAS_BYTES = 4, DPU_TABLE_BYTES = 256, DPU_MOST_CHANNELS = 64, DPU_MOST_PIXELS = 64 };

/* As in commands.py, whose Command says what each number means. */
typedef struct {
    uint32_t op, kind, wait;
    int32_t low, high, shift;
    uint32_t left_a, left_b, memory, bank, words, in_address, in_rows, in_width, in_words;
    int32_t in_y, in_x;
    uint32_t out_address, out_rows, out_width, out_stride, kernel_y, kernel_x, stride_y, stride_x, dilation_y, dilation_x;
    uint32_t second, weights, bias, scale, cycles;
} dpu_command;

/* An input or output: channels x height x width bytes in a file. In memory pixel stands beside pixel, or, where kernel is
 * not 0, all that a row of a kernel reads. */
typedef struct {
    uint32_t address, channels, height, width, kernel, stride, dilation, left, row;
} dpu_port;

typedef struct {
    uint32_t pixels, channels, alu_pixels, feature_words, weight_words, memory_words, constant_words, rate;
    uint32_t command_count, input_count, output_count;
    dpu_port *inputs, *outputs;
    dpu_command *commands;
} dpu_program;

/* Whether a command is the memory engine's. */
static inline int dpu_is_memory(const dpu_command *command) { return command->op <= DPU_SAVE; }

/* Read a command list of `size` bytes. Returns NULL when it is good, else what is wrong with it; `number` is the command
 * that is, where one is. The program is to be freed in both cases. */
const char *dpu_read(dpu_program *program, const uint8_t *bytes, size_t size, uint32_t *number);
void dpu_free(dpu_program *program);

/* Bytes of a port's tensor in its file. */
size_t dpu_port_bytes(const dpu_port *port);

/* Words of a pixel of a port in memory. */
uint32_t dpu_port_words(const dpu_program *program, const dpu_port *port);

/* Put a tensor into memory, and take one out. */
void dpu_pack(const dpu_program *program, const dpu_port *port, const int8_t *tensor, int8_t *memory);
void dpu_unpack(const dpu_program *program, const dpu_port *port, const int8_t *memory, int8_t *tensor);

#ifdef __cplusplus
}
#endif
#endif
