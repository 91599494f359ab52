// Runs the model of this bundle on one image and says what it shows:
//
//     example weights.bin image.ppm
//
// Read `run` first: it is all that a program of your own needs.
#include <algorithm>
#include <cstdio>
#include <exception>
#include <memory>
#include <numeric>
#include <stdexcept>
#include <string>
#include <vector>

#include "image.hpp"
#include "model.h"
#include "model_info.hpp"
#include "preprocess.hpp"
#include "tensors.hpp"

namespace {

using Tensor = std::vector<std::uint8_t>;

struct Close {
  void operator()(crossfarm_model *model) const { crossfarm_model_close(model); }
};
using Model = std::unique_ptr<crossfarm_model, Close>;

void check(crossfarm_status status) {
  if (status != CROSSFARM_GOOD) throw std::runtime_error(crossfarm_model_error_text());
}

Model open(const std::string &weights) {
  crossfarm_model *model = nullptr;
  check(crossfarm_model_open(weights.c_str(), nullptr, &model));
  return Model(model);
}

// Runs the model once; inputs and outputs are in the order of the model.
std::vector<Tensor> run(crossfarm_model *model, const std::vector<Tensor> &inputs) {
  std::vector<const void *> in;
  for (const Tensor &tensor : inputs) in.push_back(tensor.data());
  std::vector<Tensor> outputs(crossfarm_model_output_count(model));
  std::vector<void *> out;
  for (std::size_t i = 0; i < outputs.size(); ++i) {
    outputs[i].resize(crossfarm_model_output(model, i)->bytes);
    out.push_back(outputs[i].data());
  }
  check(crossfarm_model_run(model, in.data(), out.data()));
  return outputs;
}

// The image as the input that it is for; any others are zero.
std::vector<Tensor> inputs_of_image(const crossfarm_model *model, const std::string &path) {
  if (!model_info::preprocess.takes_images)
    throw std::runtime_error("this model takes no images; give its inputs with --raw");
  std::vector<Tensor> inputs;
  for (std::size_t i = 0; i < crossfarm_model_input_count(model); ++i)
    inputs.emplace_back(crossfarm_model_input(model, i)->bytes);
  const auto place = static_cast<std::size_t>(model_info::preprocess.input);
  inputs.at(place) = to_tensor(preprocess(read_image(path), model_info::preprocess), *crossfarm_model_input(model, place));
  return inputs;
}

std::vector<Tensor> inputs_of_files(const crossfarm_model *model, const std::vector<std::string> &paths) {
  const std::size_t count = crossfarm_model_input_count(model);
  if (paths.size() != count) throw std::runtime_error("--raw takes " + std::to_string(count) + " files, one per input");
  std::vector<Tensor> inputs;
  for (std::size_t i = 0; i < count; ++i) {
    inputs.push_back(read_file(paths[i]));
    const std::size_t expected = crossfarm_model_input(model, i)->bytes;
    if (inputs[i].size() != expected)
      throw std::runtime_error(paths[i] + ": has " + std::to_string(inputs[i].size()) + " bytes instead of " +
                               std::to_string(expected));
  }
  return inputs;
}

std::string name_of(std::size_t index) {
  return index < model_info::names.size() ? model_info::names[index] : "class " + std::to_string(index);
}

// The best classes, the best first; of equal scores the smaller class first.
void print_classes(const std::vector<double> &scores) {
  std::vector<std::size_t> order(scores.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::stable_sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) { return scores[a] > scores[b]; });
  order.resize(std::min(order.size(), static_cast<std::size_t>(model_info::top)));
  for (std::size_t i = 0; i < order.size(); ++i)
    std::printf("%zu  %.6g  %s\n", i + 1, scores[order[i]], name_of(order[i]).c_str());
}

// Greedy CTC: the best of each time step, repeats merged, blanks (0) dropped.
void print_text(const std::vector<double> &scores, std::size_t kinds) {
  std::size_t before = 0;
  for (auto step = scores.begin(); step != scores.end(); step += static_cast<std::ptrdiff_t>(kinds)) {
    const auto end = step + static_cast<std::ptrdiff_t>(kinds);
    const auto best = static_cast<std::size_t>(std::max_element(step, end) - step);
    if (best != 0 && best != before) std::printf("%s", name_of(best).c_str());
    before = best;
  }
  std::printf("\n");
}

void print(const Tensor &output, const crossfarm_port &port) {
  const std::vector<double> scores = from_tensor(output, port);
  switch (model_info::decode) {
    case model_info::Decode::classes: return print_classes(scores);
    case model_info::Decode::text: return print_text(scores, static_cast<std::size_t>(port.shape[port.rank - 1]));
    case model_info::Decode::threshold:
      for (const double score : scores) std::printf("%d  %.6g\n", score > model_info::threshold ? 1 : 0, score);
      return;
    default:
      for (const double score : scores) std::printf("%.6g\n", score);
  }
}

}  // namespace

int main(int count, char **arguments) {
  const std::vector<std::string> words(arguments, arguments + count);
  const bool is_raw = count > 3 && words[2] == "--raw";
  if (count != 3 && !is_raw) {
    std::fprintf(stderr, "usage: %s WEIGHTS IMAGE\n       %s WEIGHTS --raw INPUT_FILE...\n", arguments[0], arguments[0]);
    return 2;
  }
  try {
    const Model model = open(words[1]);
    const auto inputs = is_raw ? inputs_of_files(model.get(), {words.begin() + 3, words.end()})
                               : inputs_of_image(model.get(), words[2]);
    print(run(model.get(), inputs)[0], *crossfarm_model_output(model.get(), 0));
    return 0;
  } catch (const std::exception &error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 1;
  }
}
