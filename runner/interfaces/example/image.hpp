// Images: JPEG, PNG, binary PPM and PGM (P6, P5), and uncompressed BMP with 24 or 32 bits.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

// Rows from top to bottom, pixels from left to right, the channels of a pixel side by side.
struct Image {
  int height = 0;
  int width = 0;
  int channels = 0;
  std::vector<std::uint8_t> pixels;

  Image(int height, int width, int channels);
  std::uint8_t at(int row, int column, int channel) const { return pixels[index(row, column, channel)]; }
  std::uint8_t &at(int row, int column, int channel) { return pixels[index(row, column, channel)]; }

 private:
  std::size_t index(int row, int column, int channel) const {
    return (static_cast<std::size_t>(row) * static_cast<std::size_t>(width) + static_cast<std::size_t>(column)) *
               static_cast<std::size_t>(channels) +
           static_cast<std::size_t>(channel);
  }
};

// All bytes of a file. Throws std::runtime_error when it cannot be read.
std::vector<std::uint8_t> read_file(const std::string &path);

// The image of a file, in RGB. Throws std::runtime_error when it is none.
Image read_image(const std::string &path);
