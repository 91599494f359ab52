#include "image.hpp"

#include <fstream>
#include <iterator>
#include <stdexcept>

#include "compressed.hpp"

namespace {

using Bytes = std::vector<std::uint8_t>;

constexpr std::int64_t largest_side = 1 << 16;
constexpr std::int64_t largest_area = 1 << 28;

[[noreturn]] void refuse(const std::string &what) { throw std::runtime_error(what); }

void check_size(std::int64_t height, std::int64_t width) {
  if (height < 1 || width < 1 || height > largest_side || width > largest_side || height * width > largest_area)
    refuse("the image has " + std::to_string(height) + " x " + std::to_string(width) + " pixels");
}

// Reads from memory and refuses to go past its end.
class Reader {
 public:
  explicit Reader(const Bytes &content) : bytes(content) {}

  std::uint8_t byte() {
    if (place >= bytes.size()) refuse("the file is truncated");
    return bytes[place++];
  }

  std::int64_t little_endian(int count) {
    std::int64_t value = 0;
    for (int i = 0; i < count; ++i) value |= static_cast<std::int64_t>(byte()) << (8 * i);
    return value;
  }

  void go_to(std::int64_t offset) {
    if (offset < 0 || static_cast<std::uint64_t>(offset) > bytes.size()) refuse("the file is truncated");
    place = static_cast<std::size_t>(offset);
  }

  // A decimal number of a PPM header, with blanks and comments before it and one blank behind.
  int number() {
    std::uint8_t next = byte();
    while (is_blank(next) || next == '#') {
      if (next == '#') {
        while (byte() != '\n') continue;
      }
      next = byte();
    }
    int value = 0;
    for (; next >= '0' && next <= '9'; next = byte()) {
      value = value * 10 + (next - '0');
      if (value > (1 << 20)) refuse("a number of the header is too large");
    }
    if (!is_blank(next)) refuse("the header is damaged");
    return value;
  }

 private:
  static bool is_blank(std::uint8_t byte) { return byte == ' ' || byte == '\t' || byte == '\r' || byte == '\n'; }

  const Bytes &bytes;
  std::size_t place = 0;
};

Image read_netpbm(const Bytes &bytes, bool is_grey) {
  Reader reader(bytes);
  reader.go_to(2);
  const int width = reader.number(), height = reader.number(), most = reader.number();
  check_size(height, width);
  if (most != 255) refuse("only images with 8 bits per channel are read");
  Image image(height, width, 3);
  for (std::size_t i = 0; i < image.pixels.size(); i += 3) {
    for (std::size_t channel = 0; channel < 3; ++channel)
      image.pixels[i + channel] = is_grey && channel > 0 ? image.pixels[i] : reader.byte();
  }
  return image;
}

Image read_bmp(const Bytes &bytes) {
  Reader reader(bytes);
  reader.go_to(10);
  const std::int64_t data = reader.little_endian(4);
  if (reader.little_endian(4) < 40) refuse("the BMP is of an old kind; save it again as 24 bits");
  const auto width = static_cast<std::int32_t>(reader.little_endian(4));
  const auto signed_height = static_cast<std::int32_t>(reader.little_endian(4));
  const std::int64_t height = signed_height < 0 ? -static_cast<std::int64_t>(signed_height) : signed_height;
  check_size(height, width);
  reader.little_endian(2);
  const std::int64_t bits = reader.little_endian(2), compression = reader.little_endian(4);
  if ((bits != 24 && bits != 32) || compression != 0) refuse("only BMP with 24 or 32 bits, not compressed, is read");
  Image image(static_cast<int>(height), width, 3);
  const std::int64_t stride = (width * bits + 31) / 32 * 4;
  for (int row = 0; row < image.height; ++row) {
    // A positive height says that the rows stand upside down.
    reader.go_to(data + stride * (signed_height > 0 ? image.height - 1 - row : row));
    for (int column = 0; column < width; ++column) {
      for (int channel = 2; channel >= 0; --channel) image.at(row, column, channel) = reader.byte();
      if (bits == 32) reader.byte();
    }
  }
  return image;
}

}  // namespace

Image::Image(int height_, int width_, int channels_)
    : height(height_),
      width(width_),
      channels(channels_),
      pixels(static_cast<std::size_t>(height_) * static_cast<std::size_t>(width_) *
             static_cast<std::size_t>(channels_)) {}

std::vector<std::uint8_t> read_file(const std::string &path) {
  std::ifstream file(path, std::ios::binary);
  Bytes bytes((std::istreambuf_iterator<char>(file)), std::istreambuf_iterator<char>());
  if (!file) refuse(path + ": cannot be read");
  return bytes;
}

Image read_image(const std::string &path) {
  const Bytes bytes = read_file(path);
  const auto begins = [&](char first, char second) {
    return bytes.size() > 2 && bytes[0] == static_cast<std::uint8_t>(first) &&
           bytes[1] == static_cast<std::uint8_t>(second);
  };
  try {
    if (begins('P', '6')) return read_netpbm(bytes, false);
    if (begins('P', '5')) return read_netpbm(bytes, true);
    if (begins('B', 'M')) return read_bmp(bytes);
    if (is_compressed(bytes)) return read_compressed(bytes);
    refuse("it is neither JPEG, PNG, PPM nor BMP; convert it, for instance with `convert IN.webp OUT.png`");
  } catch (const std::runtime_error &error) {
    throw std::runtime_error(path + ": " + error.what());
  }
}
