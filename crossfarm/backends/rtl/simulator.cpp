// Runs a core of the backend rtl, as Verilator translated it, with a memory behind its AXI port: several images, one after
// another, in the same core.
//
//   simulator MEMORY_BYTES LATENCY MOST_CYCLES IMAGES CYCLES_FILE {parameters|input|output ADDRESS LENGTH FILE}...
//
// LENGTH is that of one image; files of inputs and outputs hold all images, one after another. Cycles are counted from
// the write that starts the core to its interrupt. Exit codes: 0; 2 wrong arguments; 3 the core left its memory, or broke
// the protocol; 4 it took more than MOST_CYCLES. bench.v is the same machine in Verilog, cycle by cycle.
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <iterator>
#include <stdexcept>
#include <string>
#include <vector>

#include "Vdut.h"
#include "verilated.h"

namespace {

using Bytes = std::vector<std::uint8_t>;

constexpr std::uint32_t kStart = 16;
constexpr std::uint32_t kInterruptEnable = 40;
constexpr std::uint32_t kInterruptAcknowledge = 44;
constexpr unsigned kIncrementing = 1;
constexpr int kResetCycles = 32;

struct WrongArguments : std::runtime_error {
    using std::runtime_error::runtime_error;
};
struct TooLong : std::runtime_error {
    using std::runtime_error::runtime_error;
};

// The memory: one burst of each kind at a time.
class Memory {
  public:
    Memory(Vdut &core, std::size_t bytes, unsigned latency) : core_(core), bytes_(bytes), latency_(latency) {
        core_.maxi_arready = 1;
        core_.maxi_awready = 1;
    }

    std::uint8_t *at(std::uint64_t address, std::size_t length) {
        if (address > bytes_.size() || length > bytes_.size() - address) {
            throw std::runtime_error("the core reached for address " + std::to_string(address) + ", but its memory has " +
                                     std::to_string(bytes_.size()) + " bytes");
        }
        return bytes_.data() + address;
    }

    // Which handshakes happen at the coming edge, and with what: behind it the core shows what comes next.
    void sample() {
        read_from_ = core_.maxi_araddr;
        read_words_ = core_.maxi_arlen + 1u;
        write_to_ = core_.maxi_awaddr;
        std::memcpy(given_, &core_.maxi_wdata, kWord);
        strobes_ = core_.maxi_wstrb;
        is_last_ = core_.maxi_wlast;
        increments_ = core_.maxi_arburst == kIncrementing && (1u << core_.maxi_arsize) == kWord &&
                      core_.maxi_awburst == kIncrementing && (1u << core_.maxi_awsize) == kWord;
        reads_ = core_.maxi_arvalid && core_.maxi_arready;
        takes_ = core_.maxi_rvalid && core_.maxi_rready;
        writes_ = core_.maxi_awvalid && core_.maxi_awready;
        gives_ = core_.maxi_wvalid && core_.maxi_wready;
        is_told_ = core_.maxi_bvalid && core_.maxi_bready;
    }

    // What the memory answers after the edge.
    void update() {
        read();
        write();
    }

  private:
    static constexpr std::size_t kWord = sizeof(Vdut::maxi_rdata);

    void read() {
        if (reads_) {
            core_.maxi_arready = 0;
            address_ = read_from_;
            beats_ = read_words_;
            wait_ = latency_;
            must_increment();
        } else if (takes_) {
            address_ += kWord;
            if (--beats_ == 0) {
                core_.maxi_rvalid = 0;
                core_.maxi_rlast = 0;
                core_.maxi_arready = 1;
            } else {
                show();
            }
        } else if (beats_ != 0 && wait_ != 0 && --wait_ == 0) {
            core_.maxi_rvalid = 1;
            show();
        }
    }

    void show() {
        std::memcpy(&core_.maxi_rdata, at(address_, kWord), kWord);
        core_.maxi_rlast = beats_ == 1;
    }

    void write() {
        if (writes_) {
            core_.maxi_awready = 0;
            core_.maxi_wready = 1;
            target_ = write_to_;
            must_increment();
        } else if (gives_) {
            std::uint8_t *word = at(target_, kWord);
            for (std::size_t byte = 0; byte < kWord; ++byte) {
                if (strobes_ >> byte & 1u) word[byte] = given_[byte];
            }
            target_ += kWord;
            if (is_last_) {
                core_.maxi_wready = 0;
                delay_ = latency_;
            }
        } else if (is_told_) {
            core_.maxi_bvalid = 0;
            core_.maxi_awready = 1;
        } else if (delay_ != 0 && --delay_ == 0) {
            core_.maxi_bvalid = 1;
        }
    }

    void must_increment() const {
        if (!increments_) {
            throw std::runtime_error("the core asked for a burst of another kind than incrementing whole words");
        }
    }

    Vdut &core_;
    Bytes bytes_;
    unsigned latency_;
    bool reads_ = false, takes_ = false, writes_ = false, gives_ = false, is_told_ = false;
    bool is_last_ = false, increments_ = false;
    std::uint8_t given_[kWord] = {};
    std::uint32_t strobes_ = 0;
    std::uint64_t read_from_ = 0, write_to_ = 0, address_ = 0, target_ = 0;
    unsigned read_words_ = 0;
    unsigned beats_ = 0, wait_ = 0, delay_ = 0;
};

class Machine {
  public:
    Machine(std::size_t bytes, unsigned latency, std::uint64_t most) : memory(core_, bytes, latency), most_(most) {
        core_.saxi_bready = 1;
        core_.RESETN = 0;
        for (int cycle = 0; cycle < kResetCycles; ++cycle) edge();
        core_.RESETN = 1;
        for (int cycle = 0; cycle < kResetCycles; ++cycle) edge();
        order(kInterruptEnable, 1);
    }

    ~Machine() { core_.final(); }

    // Runs the core once; returns its cycles.
    std::uint64_t run() {
        order(kStart, 1);
        std::uint64_t cycles = spent_;
        while (!core_.irq) {
            if (++cycles > most_) throw TooLong("the core did not end within " + std::to_string(most_) + " cycles");
            edge();
        }
        order(kInterruptAcknowledge, 1);
        while (core_.irq) edge();
        return cycles;
    }

  private:
    // Writes a register; `spent_` is the cycles from the edge that took its value.
    void order(std::uint32_t address, std::uint32_t value) {
        core_.saxi_awaddr = address;
        core_.saxi_awvalid = 1;
        core_.saxi_wdata = value;
        core_.saxi_wstrb = 0xF;
        core_.saxi_wvalid = 1;
        bool is_taken = false, is_done = false;
        spent_ = 0;
        for (std::uint64_t cycle = 0; !is_done; ++cycle) {
            if (cycle > most_) throw TooLong("the core does not take a write to its registers");
            if (is_taken) ++spent_;
            core_.CLK = 0;
            core_.eval();
            const bool address_taken = core_.saxi_awvalid && core_.saxi_awready;
            const bool value_taken = core_.saxi_wvalid && core_.saxi_wready;
            is_done = core_.saxi_bvalid && core_.saxi_bready;
            edge();
            if (address_taken) core_.saxi_awvalid = 0;
            if (value_taken) core_.saxi_wvalid = 0;
            is_taken = is_taken || value_taken;
        }
    }

    void edge() {
        core_.CLK = 0;
        core_.eval();
        memory.sample();
        core_.CLK = 1;
        core_.eval();
        memory.update();
    }

    Vdut core_;

  public:
    Memory memory;

  private:
    std::uint64_t most_;
    std::uint64_t spent_ = 0;
};

struct Region {
    std::string kind;
    std::uint64_t address;
    std::size_t length;
    std::string file;
    Bytes content;
};

std::uint64_t number(const char *text) {
    char *end = nullptr;
    const unsigned long long value = std::strtoull(text, &end, 10);
    if (*text < '0' || *text > '9' || *end != '\0') throw WrongArguments(std::string(text) + " is no number");
    return value;
}

Bytes content_of(const std::string &path) {
    std::ifstream stream(path, std::ios::binary);
    if (!stream) throw WrongArguments(path + " cannot be read");
    return Bytes(std::istreambuf_iterator<char>(stream), {});
}

void store(const std::string &path, const Bytes &content) {
    std::ofstream stream(path, std::ios::binary);
    stream.write(reinterpret_cast<const char *>(content.data()), static_cast<std::streamsize>(content.size()));
    if (!stream.flush()) throw WrongArguments(path + " cannot be written");
}

std::vector<Region> regions_of(int count, char **words) {
    std::vector<Region> regions;
    for (int at = 0; at + 4 <= count; at += 4) {
        Region region{words[at], number(words[at + 1]), number(words[at + 2]), words[at + 3], {}};
        if (region.kind == "parameters" || region.kind == "input") {
            region.content = content_of(region.file);
        } else if (region.kind != "output") {
            throw WrongArguments(region.kind + " is none of parameters, input and output");
        }
        regions.push_back(region);
    }
    return regions;
}

void run(std::size_t bytes, unsigned latency, std::uint64_t most, std::size_t images, const std::string &cycles_file,
         std::vector<Region> regions) {
    Machine machine(bytes, latency, most);
    std::string lines;
    for (Region &region : regions) {
        if (region.kind == "parameters" && !region.content.empty()) {
            std::memcpy(machine.memory.at(region.address, region.content.size()), region.content.data(),
                        region.content.size());
        } else if (region.kind == "input" && region.content.size() != images * region.length) {
            throw WrongArguments(region.file + " holds another number of images");
        }
    }
    for (std::size_t image = 0; image < images; ++image) {
        for (Region &region : regions) {
            if (region.kind != "input") continue;
            std::memcpy(machine.memory.at(region.address, region.length), region.content.data() + image * region.length,
                        region.length);
        }
        lines += std::to_string(machine.run()) + "\n";
        for (Region &region : regions) {
            if (region.kind != "output") continue;
            const std::uint8_t *from = machine.memory.at(region.address, region.length);
            region.content.insert(region.content.end(), from, from + region.length);
        }
    }
    for (const Region &region : regions) {
        if (region.kind == "output") store(region.file, region.content);
    }
    store(cycles_file, Bytes(lines.begin(), lines.end()));
}

}  // namespace

int main(int count, char **words) {
    try {
        if (count < 6 || (count - 6) % 4 != 0) throw WrongArguments("five words and groups of four are wanted");
        run(number(words[1]), static_cast<unsigned>(number(words[2])), number(words[3]), number(words[4]), words[5],
            regions_of(count - 6, words + 6));
        return 0;
    } catch (const WrongArguments &error) {
        std::fprintf(stderr, "%s\n", error.what());
        return 2;
    } catch (const TooLong &error) {
        std::fprintf(stderr, "%s\n", error.what());
        return 4;
    } catch (const std::exception &error) {
        std::fprintf(stderr, "%s\n", error.what());
        return 3;
    }
}
