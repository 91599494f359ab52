// JPEG and PNG, decoded by stb_image.h (Sean Barrett, public domain or MIT), which is here unchanged.
#pragma once

#include <cstdint>
#include <vector>

#include "image.hpp"

// Whether a file begins as one of the two does.
bool is_compressed(const std::vector<std::uint8_t> &bytes);

// The image in RGB, turned as the EXIF tag of a JPEG says; what is transparent is left as it is. Throws
// std::runtime_error when it is damaged, too large, or has more than 8 bits per channel.
Image read_compressed(const std::vector<std::uint8_t> &bytes);
