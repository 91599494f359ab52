#include "files.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define MOST_BYTES (INT64_C(1) << 31)

static int say(int code, const char *what, const char *which) {
    fprintf(stderr, "%s: %s\n", which, what);
    return code;
}

/* Read a whole file; NULL when it cannot be read. One byte more is asked for, so that no size is 0. */
static uint8_t *whole_file(const char *path, size_t *size) {
    FILE *file = fopen(path, "rb");
    if (!file) return NULL;
    uint8_t *bytes = NULL;
    long end = fseek(file, 0, SEEK_END) == 0 ? ftell(file) : -1;
    if (end >= 0 && end <= MOST_BYTES && fseek(file, 0, SEEK_SET) == 0 && (bytes = malloc((size_t)end + 1))) {
        *size = (size_t)end;
        if (fread(bytes, 1, *size, file) != *size) {
            free(bytes);
            bytes = NULL;
        }
    }
    fclose(file);
    return bytes;
}

static int read_program(dpu_run *run, const char *commands, const char *constants) {
    size_t size = 0;
    uint32_t number = 0;
    uint8_t *bytes = whole_file(commands, &size);
    if (!bytes) return say(DPU_FAILED, "cannot be read", commands);
    const char *wrong = dpu_read(&run->program, bytes, size, &number);
    free(bytes);
    if (wrong) {
        fprintf(stderr, "%s: refused: %s (command %u)\n", commands, wrong, (unsigned)number);
        return DPU_REFUSED;
    }
    run->constants = (int8_t *)whole_file(constants, &size);
    if (!run->constants) return say(DPU_FAILED, "cannot be read", constants);
    if (size != (size_t)run->program.constant_words * run->program.channels)
        return say(DPU_REFUSED, "refused: it is not as long as the command list says", constants);
    return DPU_GOOD;
}

int dpu_open(dpu_run *run, int argc, char **argv) {
    memset(run, 0, sizeof *run);
    char *end = NULL;
    if (argc < 4) return say(DPU_USAGE, "give COMMANDS CONSTANTS CASES INPUT... OUTPUT...", argv[0]);
    errno = 0;
    unsigned long cases = strtoul(argv[3], &end, 10);
    if (errno || end == argv[3] || *end || argv[3][0] == '-' || cases > UINT32_MAX)
        return say(DPU_USAGE, "the number of cases is none", argv[3]);
    run->cases = (uint32_t)cases;
    int code = read_program(run, argv[1], argv[2]);
    if (code) return code;
    const dpu_program *program = &run->program;
    uint32_t count = program->input_count + program->output_count;
    if ((uint32_t)(argc - 4) != count) return say(DPU_USAGE, "it has another number of inputs and outputs", argv[1]);
    size_t largest = 1;
    for (uint32_t k = 0; k < count; ++k) {
        int is_input = k < program->input_count;
        size_t bytes = dpu_port_bytes(is_input ? &program->inputs[k] : &program->outputs[k - program->input_count]);
        largest = bytes > largest ? bytes : largest;
        if (!(run->files[k] = fopen(argv[4 + k], is_input ? "rb" : "wb"))) return say(DPU_FAILED, strerror(errno), argv[4 + k]);
    }
    run->tensor = malloc(largest);
    return run->tensor ? DPU_GOOD : say(DPU_FAILED, "there is no memory for a tensor", argv[0]);
}

int dpu_read_case(dpu_run *run, int8_t *memory) {
    for (uint32_t k = 0; k < run->program.input_count; ++k) {
        const dpu_port *port = &run->program.inputs[k];
        size_t bytes = dpu_port_bytes(port);
        if (fread(run->tensor, 1, bytes, run->files[k]) != bytes) return say(DPU_REFUSED, "refused: it ends too early", "an input");
        dpu_pack(&run->program, port, run->tensor, memory);
    }
    return DPU_GOOD;
}

int dpu_write_case(dpu_run *run, const int8_t *memory) {
    for (uint32_t k = 0; k < run->program.output_count; ++k) {
        const dpu_port *port = &run->program.outputs[k];
        size_t bytes = dpu_port_bytes(port);
        dpu_unpack(&run->program, port, memory, run->tensor);
        if (fwrite(run->tensor, 1, bytes, run->files[run->program.input_count + k]) != bytes)
            return say(DPU_FAILED, strerror(errno), "an output");
    }
    return DPU_GOOD;
}

int dpu_close(dpu_run *run) {
    int code = DPU_GOOD;
    for (size_t k = 0; k < DPU_MOST_FILES; ++k)
        if (run->files[k] && fclose(run->files[k]) != 0) code = say(DPU_FAILED, strerror(errno), "an output");
    free(run->constants);
    free(run->tensor);
    dpu_free(&run->program);
    memset(run, 0, sizeof *run);
    return code;
}
