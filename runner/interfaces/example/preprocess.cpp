#include "preprocess.hpp"

#include <algorithm>
#include <cmath>
#include <stdexcept>
#include <string>

namespace {

using model_info::Channels;
using model_info::Interpolation;
using model_info::Preprocess;
using model_info::Resize;

constexpr double pi = 3.14159265358979323846;
constexpr int precision = 22;  // bits behind the point of a weight

double filter_radius(Interpolation interpolation) {
  switch (interpolation) {
    case Interpolation::bicubic: return 2.0;
    case Interpolation::lanczos: return 3.0;
    default: return 1.0;
  }
}

double sinc(double x) { return x == 0.0 ? 1.0 : std::sin(pi * x) / (pi * x); }

double filter_weight(Interpolation interpolation, double x) {
  x = std::fabs(x);
  if (x >= filter_radius(interpolation)) return 0.0;
  switch (interpolation) {
    case Interpolation::bicubic:  // Keys 1981 with a = -0.5
      return x < 1.0 ? (1.5 * x - 2.5) * x * x + 1.0 : ((-0.5 * x + 2.5) * x - 4.0) * x + 2.0;
    case Interpolation::lanczos: return sinc(x) * sinc(x / 3.0);
    default: return 1.0 - x;
  }
}

// Which pixels of a row make one pixel of the new row, and with what weights.
struct Window {
  int first;
  std::vector<int> weights;
};

std::vector<Window> windows(int before, int after, Interpolation interpolation) {
  const double step = static_cast<double>(before) / after, stretch = std::max(step, 1.0);
  const double radius = filter_radius(interpolation) * stretch;
  std::vector<Window> found;
  for (int place = 0; place < after; ++place) {
    const double centre = (place + 0.5) * step;
    const int first = std::max(0, static_cast<int>(centre - radius + 0.5));
    const int last = std::min(before, static_cast<int>(centre + radius + 0.5));
    std::vector<double> weights;
    double sum = 0.0;
    for (int i = first; i < last; ++i) {
      weights.push_back(filter_weight(interpolation, (i - centre + 0.5) / stretch));
      sum += weights.back();
    }
    Window window{first, {}};
    for (const double weight : weights)
      window.weights.push_back(static_cast<int>(std::lround(weight / (sum == 0.0 ? 1.0 : sum) * (1 << precision))));
    found.push_back(std::move(window));
  }
  return found;
}

std::uint8_t to_byte(std::int64_t fixed) {
  return static_cast<std::uint8_t>(std::clamp<std::int64_t>(fixed >> precision, 0, 255));
}

// Resizes the rows, or with `upright` the columns.
Image resize_one_way(const Image &image, int length, bool upright, Interpolation interpolation) {
  Image made(upright ? length : image.height, upright ? image.width : length, image.channels);
  const std::vector<Window> all = windows(upright ? image.height : image.width, length, interpolation);
  for (int row = 0; row < made.height; ++row) {
    for (int column = 0; column < made.width; ++column) {
      const Window &window = all[static_cast<std::size_t>(upright ? row : column)];
      for (int channel = 0; channel < made.channels; ++channel) {
        std::int64_t sum = 1 << (precision - 1);
        int place = window.first;
        for (const int weight : window.weights) {
          const int value = upright ? image.at(place, column, channel) : image.at(row, place, channel);
          sum += static_cast<std::int64_t>(weight) * value;
          ++place;
        }
        made.at(row, column, channel) = to_byte(sum);
      }
    }
  }
  return made;
}

std::vector<int> nearest_places(int before, int after) {
  const double step = static_cast<double>(before) / after;
  std::vector<int> places;
  double place = step * 0.5;
  for (int i = 0; i < after; ++i, place += step) places.push_back(std::min(static_cast<int>(place), before - 1));
  return places;
}

Image resize_nearest(const Image &image, int height, int width) {
  const std::vector<int> rows = nearest_places(image.height, height), columns = nearest_places(image.width, width);
  Image made(height, width, image.channels);
  for (int row = 0; row < height; ++row) {
    for (int column = 0; column < width; ++column) {
      for (int channel = 0; channel < image.channels; ++channel)
        made.at(row, column, channel) = image.at(rows[static_cast<std::size_t>(row)],
                                                 columns[static_cast<std::size_t>(column)], channel);
    }
  }
  return made;
}

// Luma of ITU-R BT.601 in fixed point.
Image grey(const Image &image) {
  Image made(image.height, image.width, 1);
  for (std::size_t i = 0; i < made.pixels.size(); ++i) {
    const std::uint8_t *pixel = &image.pixels[3 * i];
    made.pixels[i] = static_cast<std::uint8_t>((pixel[0] * 19595 + pixel[1] * 38470 + pixel[2] * 7471 + 0x8000) >> 16);
  }
  return made;
}

// Rounds halves to the even number.
int rounded(double value) { return std::max(1, static_cast<int>(std::nearbyint(value))); }

Image resized(const Image &image, const Preprocess &steps) {
  const double height = image.height, width = image.width;
  switch (steps.resize) {
    case Resize::size: return resize(image, steps.resize_height, steps.resize_width, steps.interpolation);
    case Resize::fit:
      return resize(image, steps.resize_height, rounded(width * steps.resize_height / height), steps.interpolation);
    case Resize::shorter_side: {
      const double share = steps.resize_height / std::min(height, width);
      return resize(image, rounded(height * share), rounded(width * share), steps.interpolation);
    }
    default: return image;
  }
}

float per_channel(const std::vector<float> &values, int channel) {
  return values.size() == 1 ? values[0] : values.at(static_cast<std::size_t>(channel));
}

}  // namespace

Image resize(const Image &image, int height, int width, Interpolation interpolation) {
  if (interpolation == Interpolation::nearest) return resize_nearest(image, height, width);
  // Each way rounds to bytes, so that their order counts. This is the order of Pillow 13: the columns first when they
  // shrink by more than twice as many pixels as the rows.
  const bool columns_first = height < image.height && image.height - height > 2 * (image.width - width);
  if (columns_first)
    return resize_one_way(resize_one_way(image, height, true, interpolation), width, false, interpolation);
  return resize_one_way(resize_one_way(image, width, false, interpolation), height, true, interpolation);
}

std::vector<float> preprocess(const Image &image, const Preprocess &steps) {
  const Image sized = resized(steps.channels == Channels::grey ? grey(image) : image, steps);
  const int shown = steps.resize == Resize::fit ? steps.resize_width : sized.width;  // cut, or padded on the right
  const int height = steps.crop_height > 0 ? steps.crop_height : sized.height;
  const int width = steps.crop_width > 0 ? steps.crop_width : shown;
  if (height > sized.height || width > shown)
    throw std::runtime_error("the image has " + std::to_string(sized.height) + " x " + std::to_string(shown) +
                             " pixels, which is less than the crop takes");
  const int top = (sized.height - height) / 2, left = (shown - width) / 2, channels = sized.channels;
  std::vector<float> tensor(static_cast<std::size_t>(height) * static_cast<std::size_t>(width) *
                            static_cast<std::size_t>(channels));
  for (int row = 0; row < height; ++row) {
    for (int column = 0; column < width; ++column) {
      for (int channel = 0; channel < channels; ++channel) {
        const int source = steps.channels == Channels::bgr ? channels - 1 - channel : channel;
        const bool is_inside = left + column < sized.width;
        const float value = is_inside ? sized.at(top + row, left + column, source) : steps.pad_value;
        const int place = steps.channels_first ? (channel * height + row) * width + column
                                               : (row * width + column) * channels + channel;
        tensor[static_cast<std::size_t>(place)] =
            (value - per_channel(steps.mean, channel)) * per_channel(steps.scale, channel);
      }
    }
  }
  return tensor;
}
