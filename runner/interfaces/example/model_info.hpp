// What models.yaml says about the model of this bundle. model_info.cpp is written for each model.
#pragma once

#include <string>
#include <vector>

namespace model_info {

enum class Resize { none, shorter_side, size, fit };
enum class Interpolation { nearest, bilinear, bicubic, lanczos };
enum class Channels { rgb, bgr, grey };
enum class Decode { none, classes, text, threshold };

// From an image (0 to 255) to the first input: resize, centre crop, order of colours, (x - mean) * scale, layout.
struct Preprocess {
  bool takes_images;  // false: the model takes something else, as raw files
  int input;          // which input the image becomes
  Resize resize;
  int resize_height;  // for shorter_side the length of that side
  int resize_width;
  Interpolation interpolation;
  float pad_value;
  int crop_height;  // 0: no crop
  int crop_width;
  Channels channels;
  std::vector<float> mean;   // one number, or one for each channel
  std::vector<float> scale;  // likewise
  bool channels_first;
};

extern const char *const name;
extern const Preprocess preprocess;
extern const Decode decode;
extern const int top;
extern const double threshold;
extern const std::vector<std::string> names;  // of the classes or characters; empty where none are known

}  // namespace model_info
