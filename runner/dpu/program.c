#include "program.h"

#include <stdlib.h>
#include <string.h>

enum { HEADER = 16, PORT = 12, COMMAND = 32, VERSION = 1 };
#define MAGIC UINT32_C(0x55504443)
#define MOST_COMMANDS (UINT32_C(1) << 20)
#define MOST_PORTS UINT32_C(64)
#define MOST_EXTENT UINT32_C(65535)
#define MOST_WINDOW UINT32_C(4096)
#define MOST_WORDS (UINT32_C(1) << 27)
#define MOST_MEMORY_BYTES (UINT64_C(1) << 31)
#define MOST_PRODUCTS (UINT64_C(1) << 17) /* of a sum: 2^17 x 2^14 fits into 32 bits */

static uint32_t number_at(const uint8_t *bytes, size_t index) {
    const uint8_t *at = bytes + 4 * index;
    return (uint32_t)at[0] | (uint32_t)at[1] << 8 | (uint32_t)at[2] << 16 | (uint32_t)at[3] << 24;
}

static uint32_t crc32_of(const uint8_t *bytes, size_t size) {
    uint32_t crc = ~UINT32_C(0);
    for (size_t k = 0; k < size; ++k) {
        crc ^= bytes[k];
        for (int bit = 0; bit < 8; ++bit) crc = crc >> 1 ^ (UINT32_C(0xEDB88320) & (~(crc & 1) + 1));
    }
    return ~crc;
}

static int within(uint64_t first, uint64_t count, uint64_t all) { return first <= all && count <= all - first; }

static int extent(uint32_t value, uint32_t most) { return value >= 1 && value <= most; }

size_t dpu_port_bytes(const dpu_port *port) { return (size_t)port->channels * port->height * port->width; }

static uint32_t pixel_bytes(const dpu_port *port) { return port->channels * (port->kernel ? port->kernel : 1); }

uint32_t dpu_port_words(const dpu_program *program, const dpu_port *port) {
    return (pixel_bytes(port) + program->channels - 1) / program->channels;
}

static const char *check_header(const dpu_program *p) {
    if (!extent(p->pixels, DPU_MOST_PIXELS) || !extent(p->channels, DPU_MOST_CHANNELS)) return "its parallelism is out of range";
    if (!extent(p->alu_pixels, p->pixels)) return "its ALU is wider than its array";
    if (!extent(p->feature_words, MOST_WORDS) || !extent(p->weight_words, MOST_WORDS)) return "its banks are out of range";
    if (!extent(p->memory_words, MOST_WORDS) || (uint64_t)p->memory_words * p->channels > MOST_MEMORY_BYTES)
        return "its memory is out of range";
    if (p->constant_words > p->memory_words) return "its constants are larger than its memory";
    if (p->rate == 0) return "its memory is infinitely slow";
    if (p->command_count > MOST_COMMANDS) return "it has too many commands";
    if (p->input_count > MOST_PORTS || p->output_count > MOST_PORTS) return "it has too many inputs or outputs";
    return NULL;
}

static const char *check_port(const dpu_program *p, const dpu_port *port) {
    if (!extent(port->channels, MOST_EXTENT) || !extent(port->height, MOST_EXTENT) || !extent(port->width, MOST_EXTENT))
        return "the shape of an input or output is out of range";
    if (!extent(port->row, MOST_EXTENT) || port->kernel > MOST_WINDOW || port->stride > MOST_EXTENT ||
        port->dilation > MOST_EXTENT || port->left > MOST_EXTENT)
        return "the layout of an input or output is out of range";
    if (port->kernel == 0 && port->row != port->width) return "the layout of an input or output is out of range";
    if ((uint64_t)port->channels * port->height * port->width > MOST_MEMORY_BYTES) return "an input or output is too large";
    uint64_t words = (uint64_t)dpu_port_words(p, port) * port->row * port->height;
    if (!within(port->address, words, p->memory_words)) return "an input or output lies beyond the memory";
    return NULL;
}

static const char *check_move(const dpu_program *p, const dpu_command *c) {
    uint32_t banks = c->op == DPU_WEIGHTS ? p->weight_words : p->feature_words;
    if (!within(c->memory, c->words, p->memory_words)) return "it moves words from or to beyond the memory";
    if (!within(c->bank, c->words, banks)) return "it moves words from or to beyond the banks";
    if (c->op == DPU_SAVE && c->memory < p->constant_words) return "it overwrites the constants";
    return NULL;
}

static const char *check_ranges(const dpu_command *c) {
    if (c->low < -128 || c->high > 127 || c->low > c->high) return "its results are no numbers of 8 bits";
    if (c->shift < -24 || c->shift > 62 || c->left_a > 24 || c->left_b > 24) return "its shifts are out of range";
    if (!extent(c->in_rows, MOST_EXTENT) || !extent(c->in_width, MOST_EXTENT) || !extent(c->in_words, MOST_EXTENT) ||
        !extent(c->out_rows, MOST_EXTENT) || !extent(c->out_width, MOST_EXTENT) || !extent(c->out_stride, MOST_EXTENT))
        return "its extents are out of range";
    if (!extent(c->kernel_y, MOST_WINDOW) || !extent(c->kernel_x, MOST_WINDOW) || !extent(c->stride_y, MOST_EXTENT) ||
        !extent(c->stride_x, MOST_EXTENT) || !extent(c->dilation_y, MOST_EXTENT) || !extent(c->dilation_x, MOST_EXTENT))
        return "its window is out of range";
    int32_t most = (int32_t)MOST_EXTENT * 16;
    if (c->in_y < -most || c->in_y > most || c->in_x < -most || c->in_x > most) return "its window is out of range";
    return NULL;
}

static const char *check_constants(const dpu_program *p, const dpu_command *c) {
    uint64_t window = (uint64_t)c->kernel_y * c->kernel_x * c->in_words, words = 0, biases = 0;
    if (c->op == DPU_CONV) {
        words = window * p->channels;
        biases = DPU_BIAS_BYTES;
        if (words > MOST_PRODUCTS) return "its sums are too long";
    } else if (c->kind == DPU_DEPTHWISE) {
        words = window;
        biases = (uint64_t)DPU_BIAS_BYTES * c->in_words;
    } else if (c->kind == DPU_TABLE) {
        words = (DPU_TABLE_BYTES + p->channels - 1) / p->channels;
    }
    if (!within(c->weights, words, p->weight_words)) return "its weights lie beyond the banks";
    if (biases && !within(c->bias, biases, p->weight_words)) return "its biases lie beyond the banks";
    return NULL;
}

static const char *check_compute(const dpu_program *p, const dpu_command *c) {
    const char *wrong = check_ranges(c);
    if (wrong) return wrong;
    if (c->op == DPU_CONV ? c->kind != 0 : c->kind < DPU_MAX || c->kind > DPU_TABLE) return "its kind is unknown";
    uint64_t in = (uint64_t)c->in_rows * c->in_width * c->in_words, out_words = c->op == DPU_CONV ? 1 : c->in_words;
    if (!within(c->in_address, in, p->feature_words)) return "it reads beyond the banks";
    uint64_t out = ((uint64_t)c->out_rows * c->out_width - 1) * c->out_stride + out_words;
    if (!within(c->out_address, out, p->feature_words)) return "it writes beyond the banks";
    if (c->op == DPU_ALU && (c->kind == DPU_ADD || c->kind == DPU_COPY || c->kind == DPU_TABLE)) {
        if (c->out_rows > c->in_rows || c->out_width != c->in_width) return "its extents do not fit each other";
        if (c->kind == DPU_ADD && !within(c->second, in, p->feature_words)) return "it reads beyond the banks";
    }
    if (c->scale != 0 && (c->scale >> 23 == 0 || c->scale >> 23 >= 255)) return "its scale is no positive number";
    return check_constants(p, c);
}

static const char *check_command(const dpu_program *p, const dpu_command *c, const uint32_t issued[2]) {
    if (c->op < DPU_LOAD || c->op > DPU_LAYER) return "it is unknown";
    if (c->wait > issued[!dpu_is_memory(c)]) return "it waits for a command that comes later";
    if (dpu_is_memory(c)) return check_move(p, c);
    return c->op == DPU_LAYER ? NULL : check_compute(p, c);
}

static void read_ports(dpu_port *ports, uint32_t count, const uint8_t *bytes, size_t at) {
    for (uint32_t k = 0; k < count; ++k, at += PORT) {
        uint32_t *numbers[] = {&ports[k].address, &ports[k].channels, &ports[k].height,   &ports[k].width, &ports[k].kernel,
                               &ports[k].stride,  &ports[k].dilation, &ports[k].left, &ports[k].row};
        for (size_t n = 0; n < sizeof numbers / sizeof *numbers; ++n) *numbers[n] = number_at(bytes, at + n);
    }
}

_Static_assert(sizeof(dpu_command) == COMMAND * sizeof(uint32_t), "a command is as long as in its file");

const char *dpu_read(dpu_program *program, const uint8_t *bytes, size_t size, uint32_t *number) {
    memset(program, 0, sizeof *program);
    *number = 0;
    if (size % 4 || size < 4 * (HEADER + 1)) return "it is too short";
    if (number_at(bytes, 0) != MAGIC) return "it is no command list";
    if (number_at(bytes, 1) != VERSION) return "it is of another version";
    if (number_at(bytes, size / 4 - 1) != crc32_of(bytes, size - 4)) return "its checksum is another: it is damaged";
    uint32_t *header[] = {&program->pixels,       &program->channels,       &program->alu_pixels, &program->feature_words,
                          &program->weight_words, &program->memory_words,   &program->constant_words, &program->rate,
                          &program->command_count, &program->input_count,    &program->output_count};
    for (size_t n = 0; n < sizeof header / sizeof *header; ++n) *header[n] = number_at(bytes, 2 + n);
    const char *wrong = check_header(program);
    if (wrong) return wrong;
    uint64_t ports = (uint64_t)program->input_count + program->output_count;
    uint64_t expected = HEADER + PORT * ports + (uint64_t)COMMAND * program->command_count + 1;
    if (expected != size / 4) return "it is not as long as it says";
    program->inputs = calloc(program->input_count + 1, sizeof *program->inputs);
    program->outputs = calloc(program->output_count + 1, sizeof *program->outputs);
    program->commands = calloc(program->command_count + 1, sizeof *program->commands);
    if (!program->inputs || !program->outputs || !program->commands) return "there is no memory for it";
    read_ports(program->inputs, program->input_count, bytes, HEADER);
    read_ports(program->outputs, program->output_count, bytes, HEADER + PORT * (size_t)program->input_count);
    for (uint32_t k = 0; k < program->input_count; ++k)
        if ((wrong = check_port(program, &program->inputs[k]))) return wrong;
    for (uint32_t k = 0; k < program->output_count; ++k) {
        if ((wrong = check_port(program, &program->outputs[k]))) return wrong;
        if (program->outputs[k].kernel) return "an output is laid out as inputs are";
    }
    uint32_t issued[2] = {0, 0};
    size_t at = HEADER + PORT * (size_t)ports;
    for (*number = 0; *number < program->command_count; ++*number, at += COMMAND) {
        uint32_t numbers[COMMAND];
        for (size_t n = 0; n < COMMAND; ++n) numbers[n] = number_at(bytes, at + n);
        memcpy(&program->commands[*number], numbers, sizeof numbers);
        const dpu_command *command = &program->commands[*number];
        if ((wrong = check_command(program, command, issued))) return wrong;
        ++issued[dpu_is_memory(command)];
    }
    return NULL;
}

void dpu_free(dpu_program *program) {
    free(program->inputs);
    free(program->outputs);
    free(program->commands);
    memset(program, 0, sizeof *program);
}

void dpu_pack(const dpu_program *program, const dpu_port *port, const int8_t *tensor, int8_t *memory) {
    size_t pixel = (size_t)dpu_port_words(program, port) * program->channels;
    int8_t *to = memory + (size_t)port->address * program->channels;
    uint32_t wide = port->kernel ? port->kernel : 1;
    memset(to, 0, pixel * port->row * port->height);
    for (uint32_t y = 0; y < port->height; ++y)
        for (uint32_t x = 0; x < port->row; ++x, to += pixel)
            for (uint32_t k = 0; k < wide; ++k) {
                int64_t from = port->kernel ? (int64_t)x * port->stride + (int64_t)k * port->dilation - port->left : x;
                if (from < 0 || from >= port->width) continue;
                for (uint32_t c = 0; c < port->channels; ++c)
                    to[(size_t)k * port->channels + c] =
                        tensor[((size_t)c * port->height + y) * port->width + (size_t)from];
            }
}

void dpu_unpack(const dpu_program *program, const dpu_port *port, const int8_t *memory, int8_t *tensor) {
    size_t pixel = (size_t)dpu_port_words(program, port) * program->channels;
    const int8_t *from = memory + (size_t)port->address * program->channels;
    for (uint32_t y = 0; y < port->height; ++y)
        for (uint32_t x = 0; x < port->width; ++x, from += pixel)
            for (uint32_t c = 0; c < port->channels; ++c)
                tensor[((size_t)c * port->height + y) * port->width + x] = from[c];
}
