// From numbers to tensors of the model's types and back.
#pragma once

#include <cstdint>
#include <vector>

#include "model.h"

// The bytes of a tensor; integers are rounded to the nearest and saturated.
// Throws std::runtime_error when `values` are not as many as the tensor has elements, or its type is not known here.
std::vector<std::uint8_t> to_tensor(const std::vector<float> &values, const crossfarm_port &port);

// The elements of a tensor. Throws std::runtime_error when its type is not known here.
std::vector<double> from_tensor(const std::vector<std::uint8_t> &bytes, const crossfarm_port &port);
