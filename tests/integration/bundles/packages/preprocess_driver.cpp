// Prints the preprocessed image as raw float32: IMAGE RESIZE HEIGHT WIDTH FILTER CROP_HEIGHT CROP_WIDTH CHANNELS FIRST.
#include <cstdio>
#include <cstdlib>
#include <exception>

#include "preprocess.hpp"

int main(int count, char **arguments) {
  if (count != 10) return 2;
  const auto number = [&](int place) { return std::atoi(arguments[place]); };
  const auto channels = static_cast<model_info::Channels>(number(8));
  const bool is_grey = channels == model_info::Channels::grey;
  const model_info::Preprocess steps{true,
                                     0,
                                     static_cast<model_info::Resize>(number(2)),
                                     number(3),
                                     number(4),
                                     static_cast<model_info::Interpolation>(number(5)),
                                     static_cast<float>(127.5),
                                     number(6),
                                     number(7),
                                     channels,
                                     is_grey ? std::vector<float>{static_cast<float>(33.3285)}
                                             : std::vector<float>{static_cast<float>(103.53), static_cast<float>(116.28),
                                                                  static_cast<float>(123.675)},
                                     {static_cast<float>(0.0171247)},
                                     number(9) == 1};
  try {
    const std::vector<float> values = preprocess(read_image(arguments[1]), steps);
    std::fwrite(values.data(), sizeof(float), values.size(), stdout);
    return 0;
  } catch (const std::exception &error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 1;
  }
}
