#include "execute.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { BLOCK = 4 }; /* pixels whose sums are taken at once, so that weights are read once for them */

int64_t dpu_round_shift(int64_t sum, int32_t shift) {
    if (shift <= 0) return sum * (INT64_C(1) << -shift);
    int64_t whole = sum >> shift, rest = sum & ((INT64_C(1) << shift) - 1), half = INT64_C(1) << (shift - 1);
    return whole + (rest > half || (rest == half && (whole & 1)));
}

static int8_t cut(int64_t value, const dpu_command *c) {
    return (int8_t)(value < c->low ? c->low : value > c->high ? c->high : value);
}

static int8_t rounded(int64_t sum, const dpu_command *c) { return cut(dpu_round_shift(sum, c->shift), c); }

static float scale_of(const dpu_command *c) {
    float scale;
    memcpy(&scale, &c->scale, sizeof scale);
    return scale;
}

static int8_t mean(int64_t sum, const dpu_command *c) {
    if (c->scale == 0) return rounded(sum, c);
    float value = rintf((float)sum * scale_of(c));
    return cut(value < -128.0f ? -128 : value > 127.0f ? 127 : (int64_t)value, c);
}

/* Biases stand in little-endian order. */
static int32_t bias_at(const int8_t *from, size_t index) {
    const uint8_t *at = (const uint8_t *)from + 4 * index;
    return (int32_t)((uint32_t)at[0] | (uint32_t)at[1] << 8 | (uint32_t)at[2] << 16 | (uint32_t)at[3] << 24);
}

/* Where a window reads, or NULL for zero padding. */
static const int8_t *pixel_at(const dpu_machine *m, const dpu_command *c, int64_t y, int64_t x) {
    if (y < 0 || y >= c->in_rows || x < 0 || x >= c->in_width) return NULL;
    size_t word = c->in_address + ((size_t)y * c->in_width + (size_t)x) * c->in_words;
    return m->features + word * m->program->channels;
}

static int8_t *result_at(const dpu_machine *m, const dpu_command *c, size_t pixel) {
    return m->features + (c->out_address + pixel * c->out_stride) * m->program->channels;
}

static const int8_t *window_at(const dpu_machine *m, const dpu_command *c, size_t pixel, uint32_t ky, uint32_t kx) {
    int64_t y = (int64_t)(pixel / c->out_width) * c->stride_y + (int64_t)ky * c->dilation_y + c->in_y;
    int64_t x = (int64_t)(pixel % c->out_width) * c->stride_x + (int64_t)kx * c->dilation_x + c->in_x;
    return pixel_at(m, c, y, x);
}

static void gather(const dpu_machine *m, const dpu_command *c, size_t pixel, int16_t *restrict to) {
    size_t bytes = (size_t)c->in_words * m->program->channels;
    for (uint32_t ky = 0; ky < c->kernel_y; ++ky)
        for (uint32_t kx = 0; kx < c->kernel_x; ++kx, to += bytes) {
            const int8_t *restrict from = window_at(m, c, pixel, ky, kx);
            if (!from)
                memset(to, 0, bytes * sizeof *to);
            else
                for (size_t k = 0; k < bytes; ++k) to[k] = from[k];
        }
}

static void spread_weights(const dpu_machine *m, const dpu_command *c, size_t length) {
    size_t channels = m->program->channels, lines = length / channels;
    const int8_t *from = m->weights + (size_t)c->weights * channels;
    for (size_t line = 0; line < lines; ++line)
        for (size_t out = 0; out < channels; ++out, from += channels)
            for (size_t in = 0; in < channels; ++in) m->kernels[out * length + line * channels + in] = from[in];
}

static void products(const int16_t *restrict weights, const int16_t *restrict patches, size_t length, int32_t sums[BLOCK]) {
    const int16_t *restrict a = patches, *restrict b = a + length, *restrict d = b + length, *restrict e = d + length;
    int32_t sum_a = 0, sum_b = 0, sum_d = 0, sum_e = 0;
    for (size_t k = 0; k < length; ++k) {
        sum_a += (int32_t)weights[k] * a[k];
        sum_b += (int32_t)weights[k] * b[k];
        sum_d += (int32_t)weights[k] * d[k];
        sum_e += (int32_t)weights[k] * e[k];
    }
    sums[0] = sum_a, sums[1] = sum_b, sums[2] = sum_d, sums[3] = sum_e;
}

static void convolve(const dpu_machine *m, const dpu_command *c) {
    size_t channels = m->program->channels, length = (size_t)c->kernel_y * c->kernel_x * c->in_words * channels;
    size_t pixels = (size_t)c->out_rows * c->out_width;
    const int8_t *biases = m->weights + (size_t)c->bias * channels;
    spread_weights(m, c, length);
    for (size_t first = 0; first < pixels; first += BLOCK) {
        size_t count = pixels - first < BLOCK ? pixels - first : BLOCK;
        for (size_t k = 0; k < count; ++k) gather(m, c, first + k, m->patches + k * length);
        for (size_t out = 0; out < channels; ++out) {
            int32_t sums[BLOCK];
            products(m->kernels + out * length, m->patches, length, sums);
            int64_t bias = bias_at(biases, out);
            for (size_t k = 0; k < count; ++k) result_at(m, c, first + k)[out] = rounded(sums[k] + bias, c);
        }
    }
}

static void window(const dpu_machine *m, const dpu_command *c) {
    size_t channels = m->program->channels, bytes = (size_t)c->in_words * channels;
    size_t pixels = (size_t)c->out_rows * c->out_width;
    int32_t *restrict sums = m->sums;
    for (size_t pixel = 0; pixel < pixels; ++pixel) {
        const int8_t *restrict kernel = m->weights + (size_t)c->weights * channels;
        for (size_t k = 0; k < bytes; ++k) sums[k] = c->kind == DPU_MAX ? INT8_MIN : 0;
        for (uint32_t ky = 0; ky < c->kernel_y; ++ky)
            for (uint32_t kx = 0; kx < c->kernel_x; ++kx, kernel += bytes) {
                const int8_t *restrict from = window_at(m, c, pixel, ky, kx);
                if (!from) continue;
                if (c->kind == DPU_MAX)
                    for (size_t k = 0; k < bytes; ++k) sums[k] = from[k] > sums[k] ? from[k] : sums[k];
                else if (c->kind == DPU_DEPTHWISE)
                    for (size_t k = 0; k < bytes; ++k) sums[k] += (int32_t)from[k] * kernel[k];
                else
                    for (size_t k = 0; k < bytes; ++k) sums[k] += from[k];
            }
        int8_t *to = result_at(m, c, pixel);
        const int8_t *biases = m->weights + (size_t)c->bias * channels;
        for (size_t k = 0; k < bytes; ++k)
            if (c->kind == DPU_MAX)
                to[k] = cut(sums[k], c);
            else
                to[k] = c->kind == DPU_AVERAGE ? mean(sums[k], c) : rounded((int64_t)sums[k] + bias_at(biases, k), c);
    }
}

static void each(const dpu_machine *m, const dpu_command *c) {
    size_t channels = m->program->channels, bytes = (size_t)c->in_words * channels;
    size_t pixels = (size_t)c->out_rows * c->out_width;
    const int8_t *from = m->features + (size_t)c->in_address * channels;
    const int8_t *second = m->features + (size_t)c->second * channels;
    const int8_t *table = m->weights + (size_t)c->weights * channels;
    for (size_t pixel = 0; pixel < pixels; ++pixel, from += bytes, second += bytes) {
        int8_t *to = result_at(m, c, pixel);
        for (size_t k = 0; k < bytes; ++k)
            if (c->kind == DPU_ADD)
                to[k] = rounded(from[k] * (INT64_C(1) << c->left_a) + second[k] * (INT64_C(1) << c->left_b), c);
            else
                to[k] = c->kind == DPU_TABLE ? table[(uint8_t)from[k]] : rounded(from[k], c);
    }
}

int dpu_machine_make(dpu_machine *machine, const dpu_program *program, const int8_t *constants) {
    size_t channels = program->channels, length = 1, widest = 1;
    memset(machine, 0, sizeof *machine);
    machine->program = program;
    for (uint32_t k = 0; k < program->command_count; ++k) {
        const dpu_command *c = &program->commands[k];
        size_t fed = (size_t)c->kernel_y * c->kernel_x * c->in_words * channels;
        if (c->op == DPU_CONV && fed > length) length = fed;
        if (c->op == DPU_ALU && c->in_words * channels > widest) widest = c->in_words * channels;
    }
    machine->memory = calloc(program->memory_words, channels);
    machine->features = calloc(program->feature_words, channels);
    machine->weights = calloc(program->weight_words, channels);
    machine->kernels = calloc(length * channels, sizeof *machine->kernels);
    machine->patches = calloc(length * BLOCK, sizeof *machine->patches);
    machine->sums = calloc(widest, sizeof *machine->sums);
    if (!machine->memory || !machine->features || !machine->weights || !machine->kernels || !machine->patches || !machine->sums)
        return -1;
    memcpy(machine->memory, constants, program->constant_words * channels);
    return 0;
}

void dpu_machine_free(dpu_machine *machine) {
    free(machine->memory);
    free(machine->features);
    free(machine->weights);
    free(machine->kernels);
    free(machine->patches);
    free(machine->sums);
    memset(machine, 0, sizeof *machine);
}

void dpu_execute(dpu_machine *m) {
    size_t channels = m->program->channels;
    for (uint32_t k = 0; k < m->program->command_count; ++k) {
        const dpu_command *c = &m->program->commands[k];
        int8_t *memory = m->memory + (size_t)c->memory * channels;
        int8_t *bank = (c->op == DPU_WEIGHTS ? m->weights : m->features) + (size_t)c->bank * channels;
        if (c->op == DPU_LOAD || c->op == DPU_WEIGHTS)
            memcpy(bank, memory, c->words * channels);
        else if (c->op == DPU_SAVE)
            memcpy(memory, bank, c->words * channels);
        else if (c->op == DPU_CONV)
            convolve(m, c);
        else if (c->op == DPU_ALU)
            (c->kind == DPU_MAX || c->kind == DPU_AVERAGE || c->kind == DPU_DEPTHWISE ? window : each)(m, c);
    }
}
