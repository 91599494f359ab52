// Runs a folder that MERA compiled (deploy.so, deploy.json, deploy.params), and compares what it answers to input0.bin
// with ref_result_0.bin: latency, max abs diff, mean abs diff and correct ratio.
//
//   g++ -std=c++17 -O2 runner.cpp -o mera_runner -L DIR -lmeratvm_runtime -Wl,-rpath,DIR
//   mera_runner FOLDER [--device 1|2|3] [--warmup N] [--repeat N] [--tolerance T]
//               [--cases N --inputs DIR --outputs DIR --samples FILE]
//
// With the options of the last line it also answers N other cases: DIR/K.bin holds those of input K, one behind the
// other, and DIR/K.bin gets the answers of output K likewise; FILE gets the times of the runs, in ns, with commas.
// DIR is the folder of libmeratvm_runtime.so: `tvm` in the Python package mera-tvm-full or mera-tvm-runtime, which have
// no headers. So the part of TVM's C interface that is needed is declared here.
// Exit code: 0 where all is correct, 1 where something differs, 2 where nothing could be compared.
#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <iterator>
#include <stdexcept>
#include <string>
#include <vector>

extern "C" {
struct DLDevice {
  int32_t device_type;
  int32_t device_id;
};
struct DLDataType {
  uint8_t code;
  uint8_t bits;
  uint16_t lanes;
};
struct DLTensor {
  void *data;
  DLDevice device;
  int32_t ndim;
  DLDataType dtype;
  int64_t *shape;
  int64_t *strides;
  uint64_t byte_offset;
};
union TVMValue {
  int64_t v_int64;
  double v_float64;
  void *v_handle;
  const char *v_str;
};
struct TVMByteArray {
  const char *data;
  size_t size;
};
const char *TVMGetLastError(void);
int TVMModLoadFromFile(const char *file, const char *format, void **module);
int TVMModGetFunction(void *module, const char *name, int query_imports, void **function);
int TVMFuncGetGlobal(const char *name, void **function);
int TVMFuncCall(void *function, TVMValue *values, int *codes, int count, TVMValue *result, int *result_code);
int TVMFuncFree(void *function);
int TVMArrayFree(DLTensor *array);
}

namespace {

enum Code { kInt = 0, kTensor = 7, kModule = 9, kString = 11, kBytes = 12 };
enum Kind { kSigned = 0, kUnsigned = 1, kFloat = 2 };
constexpr int kCpu = 1;

void check(int failed) {
  if (failed != 0) throw std::runtime_error(TVMGetLastError());
}

// Arguments of one call.
class Arguments {
 public:
  Arguments &integer(int64_t value) {
    TVMValue made;
    made.v_int64 = value;
    return add(made, kInt);
  }
  Arguments &text(const std::string &value) {
    TVMValue made;
    made.v_str = value.c_str();
    return add(made, kString);
  }
  Arguments &pointer(void *value, Code code) {
    TVMValue made;
    made.v_handle = value;
    return add(made, code);
  }
  TVMValue call(void *function) {
    TVMValue result{};
    int code = 0;
    check(TVMFuncCall(function, values_.data(), codes_.data(), static_cast<int>(values_.size()), &result, &code));
    return result;
  }

 private:
  Arguments &add(TVMValue value, int code) {
    values_.push_back(value);
    codes_.push_back(code);
    return *this;
  }
  std::vector<TVMValue> values_;
  std::vector<int> codes_;
};

std::string contents(const std::string &path) {
  std::ifstream stream(path, std::ios::binary);
  if (!stream) throw std::runtime_error(path + " cannot be read");
  return std::string(std::istreambuf_iterator<char>(stream), {});
}

bool exists(const std::string &path) { return std::ifstream(path).good(); }

size_t elements(const DLTensor &tensor) {
  size_t count = 1;
  for (int axis = 0; axis < tensor.ndim; ++axis) count *= static_cast<size_t>(tensor.shape[axis]);
  return count;
}

size_t bytes(const DLTensor &tensor) { return elements(tensor) * ((tensor.dtype.bits * tensor.dtype.lanes + 7) / 8); }

double element(const char *data, const DLDataType &type, size_t place) {
  auto as = [&](auto sample) {
    std::memcpy(&sample, data + place * sizeof sample, sizeof sample);
    return static_cast<double>(sample);
  };
  if (type.code == kFloat && type.bits == 32) return as(float{});
  if (type.code == kFloat && type.bits == 64) return as(double{});
  if (type.code == kSigned && type.bits == 8) return as(int8_t{});
  if (type.code == kUnsigned && type.bits == 8) return as(uint8_t{});
  if (type.code == kSigned && type.bits == 32) return as(int32_t{});
  if (type.code == kSigned && type.bits == 64) return as(int64_t{});
  throw std::runtime_error("an output has a type that this program does not know");
}

// A compiled folder, loaded.
class Model {
 public:
  Model(const std::string &folder, int device) {
    void *library = nullptr, *create = nullptr;
    check(TVMModLoadFromFile((folder + "/deploy.so").c_str(), "so", &library));
    check(TVMFuncGetGlobal("tvm.graph_executor.create", &create));
    if (create == nullptr) throw std::runtime_error("the runtime has no graph executor");
    const std::string graph = contents(folder + "/deploy.json"), parameters = contents(folder + "/deploy.params");
    module_ = Arguments().text(graph).pointer(library, kModule).integer(kCpu).integer(0).call(create).v_handle;
    TVMByteArray array{parameters.data(), parameters.size()};
    Arguments().pointer(&array, kBytes).call(function("load_params"));
    Arguments().integer(device).call(function("mera_runtime_init_device"));
    run_ = function("run");
  }
  void set_input(int number, std::string data) {
    auto *wanted = static_cast<DLTensor *>(Arguments().integer(number).call(function("get_input")).v_handle);
    if (bytes(*wanted) != data.size()) {
      throw std::runtime_error("input" + std::to_string(number) + ".bin has " + std::to_string(data.size()) +
                               " bytes, and the model takes " + std::to_string(bytes(*wanted)));
    }
    DLTensor given = *wanted;
    given.data = data.data();
    given.strides = nullptr;
    given.byte_offset = 0;
    Arguments().integer(number).pointer(&given, kTensor).call(function("set_input"));
    check(TVMArrayFree(wanted));
  }
  void run() { Arguments().call(run_); }
  int outputs() { return static_cast<int>(Arguments().call(function("get_num_outputs")).v_int64); }
  DLTensor *output(int number) {
    return static_cast<DLTensor *>(Arguments().integer(number).call(function("get_output")).v_handle);
  }

 private:
  void *function(const char *name) {
    void *found = nullptr;
    check(TVMModGetFunction(module_, name, 1, &found));
    if (found == nullptr) throw std::runtime_error(std::string("the model has no function ") + name);
    return found;
  }
  void *module_ = nullptr;
  void *run_ = nullptr;
};

// Prints how far an output is from its reference; returns whether all of it is correct.
bool compare(int number, const DLTensor &output, const std::string &reference, double tolerance) {
  if (bytes(output) != reference.size()) {
    throw std::runtime_error("ref_result_" + std::to_string(number) + ".bin has " + std::to_string(reference.size()) +
                             " bytes, and the output " + std::to_string(bytes(output)));
  }
  const char *data = static_cast<const char *>(output.data) + output.byte_offset;
  const size_t count = elements(output);
  double worst = 0, sum = 0;
  size_t correct = 0;
  for (size_t place = 0; place < count; ++place) {
    const double difference = std::fabs(element(data, output.dtype, place) - element(reference.data(), output.dtype, place));
    // A NaN is never correct, and shows.
    correct += difference <= tolerance;
    worst = difference > worst || std::isnan(difference) ? difference : worst;
    sum += difference;
  }
  std::printf("output %d: max abs diff %.9g, mean abs diff %.9g, correct ratio %.6f\n", number, worst, sum / count,
              static_cast<double>(correct) / count);
  return correct == count;
}

struct Options {
  int device = 1;
  int warmup = 0;
  int repeat = 1;
  int cases = 0;
  double tolerance = 0;
  std::string inputs, outputs, samples;
};

// Answers the cases of a folder, one behind the other.
void answer(Model &model, const Options &options) {
  std::vector<std::string> stacked;
  for (int number = 0; exists(options.inputs + "/" + std::to_string(number) + ".bin"); ++number) {
    stacked.push_back(contents(options.inputs + "/" + std::to_string(number) + ".bin"));
    if (stacked.back().size() % options.cases != 0) throw std::runtime_error("the inputs are not so many whole cases");
  }
  std::vector<std::string> answers(model.outputs());
  for (int number = 0; number < options.cases; ++number) {
    for (size_t input = 0; input < stacked.size(); ++input) {
      const size_t size = stacked[input].size() / options.cases;
      model.set_input(static_cast<int>(input), stacked[input].substr(number * size, size));
    }
    model.run();
    for (size_t output = 0; output < answers.size(); ++output) {
      DLTensor *found = model.output(static_cast<int>(output));
      answers[output].append(static_cast<const char *>(found->data) + found->byte_offset, bytes(*found));
      check(TVMArrayFree(found));
    }
  }
  for (size_t output = 0; output < answers.size(); ++output) {
    std::ofstream stream(options.outputs + "/" + std::to_string(output) + ".bin", std::ios::binary);
    stream.write(answers[output].data(), static_cast<std::streamsize>(answers[output].size()));
    if (!stream.flush()) throw std::runtime_error("the outputs cannot be written");
  }
}

int run(const std::string &folder, const Options &options) {
  Model model(folder, options.device);
  for (int number = 0;; ++number) {
    const std::string path = folder + "/input" + std::to_string(number) + ".bin";
    if (number > 0 && !exists(path)) break;
    model.set_input(number, contents(path));
  }
  std::vector<double> milliseconds;
  for (int round = 0; round < options.warmup; ++round) model.run();
  for (int round = 0; round < options.repeat; ++round) {
    const auto start = std::chrono::steady_clock::now();
    model.run();
    milliseconds.push_back(std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - start).count());
  }
  if (!options.samples.empty()) {
    std::ofstream stream(options.samples);
    for (size_t place = 0; place < milliseconds.size(); ++place) {
      stream << (place ? "," : "") << static_cast<int64_t>(milliseconds[place] * 1e6);
    }
    if (!stream.flush()) throw std::runtime_error(options.samples + " cannot be written");
  }
  std::sort(milliseconds.begin(), milliseconds.end());
  std::printf("latency: p50 %.3f ms, min %.3f ms, %d runs\n", milliseconds[milliseconds.size() / 2], milliseconds[0], options.repeat);
  bool all = true;
  for (int number = 0; number < model.outputs(); ++number) {
    DLTensor *output = model.output(number);
    all &= compare(number, *output, contents(folder + "/ref_result_" + std::to_string(number) + ".bin"), options.tolerance);
    check(TVMArrayFree(output));
  }
  if (options.cases > 0) answer(model, options);
  return all ? 0 : 1;
}

}  // namespace

int main(int count, char **words) {
  Options options;
  bool good = count >= 2 && count % 2 == 0;
  for (int place = 2; good && place < count; place += 2) {
    const std::string option = words[place];
    const char *value = words[place + 1];
    if (option == "--device") {
      options.device = std::atoi(value);
    } else if (option == "--warmup") {
      options.warmup = std::atoi(value);
    } else if (option == "--repeat") {
      options.repeat = std::atoi(value);
    } else if (option == "--tolerance") {
      options.tolerance = std::atof(value);
    } else if (option == "--cases") {
      options.cases = std::atoi(value);
    } else if (option == "--inputs") {
      options.inputs = value;
    } else if (option == "--outputs") {
      options.outputs = value;
    } else if (option == "--samples") {
      options.samples = value;
    } else {
      good = false;
    }
  }
  if (!good || options.device < 1 || options.device > 3 || options.repeat < 1 || options.cases < 0) {
    std::fprintf(stderr, "usage: mera_runner FOLDER [--device 1|2|3] [--warmup N] [--repeat N] [--tolerance T]\n"
                         "                   [--cases N --inputs DIR --outputs DIR --samples FILE]\n"
                         "  devices: 1 Sakura-1, 2 AMD Xilinx U50, 3 Intel IA420; they count for folders of target IP alone\n");
    return 2;
  }
  try {
    return run(words[1], options);
  } catch (const std::exception &error) {
    std::fprintf(stderr, "%s: %s\n", words[1], error.what());
    return 2;
  }
}
