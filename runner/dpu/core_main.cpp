// Testbench of the core: plays memory and host for it, and says how many cycles each case took. files.h says how it is
// called; CORE_PIXELS and the others are what the core was built with.
#include <cstdio>
#include <cstring>
#include <memory>
#include <vector>

#include "Vdpu_core.h"
#include "files.h"
#include "verilated.h"

namespace {

constexpr int kPort = 4;

struct Bench {
    const dpu_program &program;
    std::vector<int8_t> memory;
    std::vector<const dpu_command *> lists[2]; // of the array, of the memory engine
    std::unique_ptr<VerilatedContext> context = std::make_unique<VerilatedContext>();
    std::unique_ptr<Vdpu_core> core = std::make_unique<Vdpu_core>(context.get());
    uint64_t most = 1000;

    Bench(const dpu_program &given, const int8_t *constants)
        : program(given), memory((size_t)given.memory_words * given.channels) {
        std::memcpy(memory.data(), constants, (size_t)program.constant_words * program.channels);
        for (uint32_t k = 0; k < program.command_count; ++k) {
            const dpu_command &command = program.commands[k];
            lists[dpu_is_memory(&command)].push_back(&command);
            most += 16 + 4 * (uint64_t)command.cycles;
        }
        core->rate = program.rate;
    }

    template <class Wide> void offer(const std::vector<const dpu_command *> &list, uint32_t index, uint8_t &valid, Wide &to) {
        valid = index < list.size();
        if (valid) std::memcpy(&to[0], list[index], sizeof(dpu_command));
    }

    void settle() {
        core->clk = 0;
        offer(lists[1], core->memory_index, core->memory_valid, core->memory_command);
        offer(lists[0], core->array_index, core->array_valid, core->array_command);
        core->eval();
    }

    // One cycle; returns false when a word beyond the memory is asked for.
    bool step() {
        settle();
        uint64_t first = core->port_address, words = core->port_words, bytes = words * program.channels;
        if (words) {
            if (words > kPort || first + words > program.memory_words) return false;
            int8_t *at = memory.data() + first * program.channels;
            if (core->port_write)
                std::memcpy(at, &core->port_out[0], bytes);
            else
                std::memcpy(&core->port_in[0], at, bytes);
        }
        core->clk = 1;
        core->eval();
        return true;
    }

    // All commands; returns the cycles, or 0 when the core hangs or reads beyond the memory.
    uint64_t run() {
        core->reset = 1;
        step();
        core->reset = 0;
        for (uint64_t cycles = 0; cycles < most; ++cycles) {
            settle();
            if (core->idle) return cycles;
            if (!step()) return 0;
        }
        return 0;
    }
};

bool fits(const dpu_program &p) {
    return p.pixels == CORE_PIXELS && p.channels == CORE_CHANNELS && p.alu_pixels == CORE_ALU_PIXELS &&
           p.feature_words == CORE_FEATURE_WORDS && p.weight_words == CORE_WEIGHT_WORDS;
}

int run_cases(dpu_run &run) {
    if (!fits(run.program)) {
        std::fprintf(stderr, "refused: the command list was made for another array than this core\n");
        return DPU_REFUSED;
    }
    Bench bench(run.program, run.constants);
    int code = DPU_GOOD;
    for (uint32_t k = 0; k < run.cases && !code; ++k) {
        if ((code = dpu_read_case(&run, bench.memory.data()))) break;
        uint64_t cycles = bench.run();
        if (!cycles) {
            std::fprintf(stderr, "the core hangs, or leaves its memory\n");
            return DPU_FAILED;
        }
        std::printf("cycles %llu\n", (unsigned long long)cycles);
        code = dpu_write_case(&run, bench.memory.data());
    }
    return code;
}

} // namespace

int main(int argc, char **argv) {
    dpu_run run;
    int code = dpu_open(&run, argc, argv);
    if (!code) code = run_cases(run);
    int closed = dpu_close(&run);
    return code ? code : closed;
}
