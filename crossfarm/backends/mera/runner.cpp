// Runs a folder that MERA compiled (deploy.so, deploy.json, deploy.params), and compares what it answers to input0.bin
// with ref_result_0.bin: latency, max abs diff, mean abs diff and correct ratio.
//
//   g++ -std=c++17 -O2 runner.cpp -o mera_runner -L DIR -lmeratvm_runtime -Wl,-rpath,DIR
//   mera_runner FOLDER [--device 1|2|3] [--repeat N] [--tolerance T]
//
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

int run(const std::string &folder, int device, int repeat, double tolerance) {
  Model model(folder, device);
  for (int number = 0;; ++number) {
    const std::string path = folder + "/input" + std::to_string(number) + ".bin";
    if (number > 0 && !exists(path)) break;
    model.set_input(number, contents(path));
  }
  std::vector<double> milliseconds;
  for (int round = 0; round < repeat; ++round) {
    const auto start = std::chrono::steady_clock::now();
    model.run();
    milliseconds.push_back(std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - start).count());
  }
  std::sort(milliseconds.begin(), milliseconds.end());
  std::printf("latency: p50 %.3f ms, min %.3f ms, %d runs\n", milliseconds[milliseconds.size() / 2], milliseconds[0], repeat);
  bool all = true;
  for (int number = 0; number < model.outputs(); ++number) {
    DLTensor *output = model.output(number);
    all &= compare(number, *output, contents(folder + "/ref_result_" + std::to_string(number) + ".bin"), tolerance);
    check(TVMArrayFree(output));
  }
  return all ? 0 : 1;
}

}  // namespace

int main(int count, char **words) {
  int device = 1, repeat = 1;
  double tolerance = 0;
  bool good = count >= 2 && count % 2 == 0;
  for (int place = 2; good && place < count; place += 2) {
    const std::string option = words[place];
    if (option == "--device") {
      device = std::atoi(words[place + 1]);
    } else if (option == "--repeat") {
      repeat = std::atoi(words[place + 1]);
    } else if (option == "--tolerance") {
      tolerance = std::atof(words[place + 1]);
    } else {
      good = false;
    }
  }
  if (!good || device < 1 || device > 3 || repeat < 1) {
    std::fprintf(stderr, "usage: mera_runner FOLDER [--device 1|2|3] [--repeat N] [--tolerance T]\n"
                         "  devices: 1 Sakura-1, 2 AMD Xilinx U50, 3 Intel IA420; they count for folders of target IP alone\n");
    return 2;
  }
  try {
    return run(words[1], device, repeat, tolerance);
  } catch (const std::exception &error) {
    std::fprintf(stderr, "%s: %s\n", words[1], error.what());
    return 2;
  }
}
