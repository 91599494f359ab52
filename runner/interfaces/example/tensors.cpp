#include "tensors.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <stdexcept>
#include <string>
#include <type_traits>

namespace {

// Calls `action` with a value of the C++ type of the elements.
template <typename Action>
void with_type(const crossfarm_port &port, const Action &action) {
  switch (port.type) {
    case CROSSFARM_FLOAT32: return action(float{});
    case CROSSFARM_FLOAT64: return action(double{});
    case CROSSFARM_INT8: return action(std::int8_t{});
    case CROSSFARM_UINT8: return action(std::uint8_t{});
    case CROSSFARM_INT16: return action(std::int16_t{});
    case CROSSFARM_UINT16: return action(std::uint16_t{});
    case CROSSFARM_INT32: return action(std::int32_t{});
    case CROSSFARM_UINT32: return action(std::uint32_t{});
    case CROSSFARM_INT64: return action(std::int64_t{});
    default:
      throw std::runtime_error(std::string(port.name) + ": this example does not know the type " +
                               crossfarm_model_type_name(port.type));
  }
}

template <typename Element>
Element converted(float value) {
  if constexpr (std::is_floating_point_v<Element>) {
    return static_cast<Element>(value);
  } else {
    const auto least = static_cast<double>(std::numeric_limits<Element>::min());
    const auto most = static_cast<double>(std::numeric_limits<Element>::max());
    const double whole = std::nearbyint(static_cast<double>(value));
    if (whole >= most) return std::numeric_limits<Element>::max();
    return static_cast<Element>(std::max(whole, least));
  }
}

}  // namespace

std::vector<std::uint8_t> to_tensor(const std::vector<float> &values, const crossfarm_port &port) {
  std::vector<std::uint8_t> bytes(port.bytes);
  with_type(port, [&](auto example) {
    using Element = decltype(example);
    if (values.size() * sizeof(Element) != port.bytes)
      throw std::runtime_error("the image gives " + std::to_string(values.size()) + " numbers, but the model takes " +
                               std::to_string(port.bytes / sizeof(Element)) + "; give an image of another size");
    for (std::size_t i = 0; i < values.size(); ++i) {
      const Element element = converted<Element>(values[i]);
      std::memcpy(&bytes[i * sizeof element], &element, sizeof element);
    }
  });
  return bytes;
}

std::vector<double> from_tensor(const std::vector<std::uint8_t> &bytes, const crossfarm_port &port) {
  std::vector<double> values;
  with_type(port, [&](auto element) {
    values.resize(bytes.size() / sizeof element);
    for (std::size_t i = 0; i < values.size(); ++i) {
      std::memcpy(&element, &bytes[i * sizeof element], sizeof element);
      values[i] = static_cast<double>(element);
    }
  });
  return values;
}
