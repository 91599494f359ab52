#include "compressed.hpp"

#include <algorithm>
#include <cstddef>
#include <memory>
#include <stdexcept>
#include <string>

#include "stb.hpp"

namespace {

using Bytes = std::vector<std::uint8_t>;

constexpr std::int64_t largest_area = 1 << 26;

struct Free {
  void operator()(stbi_uc *pixels) const { stbi_image_free(pixels); }
};

bool begins(const Bytes &bytes, std::size_t place, const char *text, std::size_t count) {
  return place <= bytes.size() && bytes.size() - place >= count &&
         std::equal(text, text + count, bytes.begin() + static_cast<std::ptrdiff_t>(place),
                    [](char one, std::uint8_t other) { return static_cast<std::uint8_t>(one) == other; });
}

// A number of the TIFF structure inside of an EXIF segment; 0 beyond its end.
class Tiff {
 public:
  Tiff(const Bytes &content, std::size_t from, std::size_t to) : bytes(content), begin(from), end(to) {
    is_big = begins(bytes, begin, "MM", 2);
  }

  std::uint32_t number(std::size_t place, std::size_t count) const {
    if (place > end - begin || end - begin - place < count) return 0;
    std::uint32_t value = 0;
    for (std::size_t i = 0; i < count; ++i) {
      const std::size_t at = begin + place + (is_big ? i : count - 1 - i);
      value = value << 8 | bytes[at];
    }
    return value;
  }

  // The tag Orientation of the first directory; 1 where there is none.
  std::uint32_t orientation() const {
    const std::size_t directory = number(4, 4), entries = number(directory, 2);
    for (std::size_t i = 0; i < entries; ++i) {
      const std::size_t entry = directory + 2 + 12 * i;
      if (number(entry, 2) == 0x0112) return number(entry + 8, 2);
    }
    return 1;
  }

 private:
  const Bytes &bytes;
  std::size_t begin, end;
  bool is_big = false;
};

// What the segments before the picture of a JPEG say; 1 is upright.
std::uint32_t orientation_of(const Bytes &bytes) {
  std::size_t place = 2;
  while (place + 4 <= bytes.size() && bytes[place] == 0xFF && bytes[place + 1] >= 0xC0 && bytes[place + 1] != 0xDA) {
    const std::size_t length = static_cast<std::size_t>(bytes[place + 2]) << 8 | bytes[place + 3];
    const std::size_t next = place + 2 + length;
    if (length < 2 || next > bytes.size()) return 1;
    if (bytes[place + 1] == 0xE1 && length >= 16 && begins(bytes, place + 4, "Exif\0\0", 6))
      return Tiff(bytes, place + 10, next).orientation();
    place = next;
  }
  return 1;
}

// Turns an image as the tag's values 2 to 8 say: mirrored, half round, a quarter to either side, and mixtures of them.
Image upright(const Image &image, std::uint32_t orientation) {
  if (orientation < 2 || orientation > 8) return image;
  const bool is_turned = orientation >= 5;
  const int bottom = image.height - 1, right = image.width - 1;
  Image made(is_turned ? image.width : image.height, is_turned ? image.height : image.width, image.channels);
  for (int row = 0; row < made.height; ++row) {
    for (int column = 0; column < made.width; ++column) {
      int from_row = is_turned ? column : row, from_column = is_turned ? row : column;
      if (orientation == 3 || orientation == 4 || orientation == 6 || orientation == 7) from_row = bottom - from_row;
      if (orientation == 2 || orientation == 3 || orientation == 7 || orientation == 8) from_column = right - from_column;
      for (int channel = 0; channel < made.channels; ++channel)
        made.at(row, column, channel) = image.at(from_row, from_column, channel);
    }
  }
  return made;
}

}  // namespace

bool is_compressed(const Bytes &bytes) {
  return begins(bytes, 0, "\xFF\xD8\xFF", 3) || begins(bytes, 0, "\x89PNG\r\n\x1A\n", 8);
}

Image read_compressed(const Bytes &bytes) {
  const auto refuse = [](const std::string &what) { throw std::runtime_error(what); };
  if (bytes.size() > static_cast<std::size_t>(1) << 30) refuse("the file is too large");
  const auto size = static_cast<int>(bytes.size());
  int width = 0, height = 0, channels = 0;
  if (!stbi_info_from_memory(bytes.data(), size, &width, &height, &channels))
    refuse(std::string("the image is damaged: ") + stbi_failure_reason());
  if (static_cast<std::int64_t>(height) * width > largest_area)
    refuse("the image has " + std::to_string(height) + " x " + std::to_string(width) + " pixels");
  if (stbi_is_16_bit_from_memory(bytes.data(), size)) refuse("only images with 8 bits per channel are read");
  const std::unique_ptr<stbi_uc, Free> pixels(
      stbi_load_from_memory(bytes.data(), size, &width, &height, &channels, 3));
  if (!pixels) refuse(std::string("the image is damaged: ") + stbi_failure_reason());
  Image image(height, width, 3);
  std::copy(pixels.get(), pixels.get() + image.pixels.size(), image.pixels.begin());
  return upright(image, bytes[0] == 0xFF ? orientation_of(bytes) : 1);
}
