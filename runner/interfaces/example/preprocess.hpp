// From an image to the numbers that the model takes.
#pragma once

#include <vector>

#include "image.hpp"
#include "model_info.hpp"

// Resizes with the filters of Pillow, and to the same bytes as its version 13.
Image resize(const Image &image, int height, int width, model_info::Interpolation interpolation);

// The first input in C order, float32 before it becomes the type of the input. `image` is RGB.
// Throws std::runtime_error when the image is smaller than the crop.
std::vector<float> preprocess(const Image &image, const model_info::Preprocess &steps);
