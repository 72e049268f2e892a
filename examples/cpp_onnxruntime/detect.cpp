// Detect objects with a file that `yolo export format=onnx` wrote.
//
//   detect best.onnx photo.ppm [confidence [runs [threads]]]
//
// Prints a line for each box: class x1 y1 x2 y2 score, in pixels of the image; of several runs, the median time too.
// Built with OpenCV it reads any image, else binary PPM (`convert photo.jpg photo.ppm`). For detectors whose rows need
// no suppression: RT-DETR, RT-DETRv2, D-FINE, DEIM and DEIMv2.

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <fstream>
#include <stdexcept>
#include <string>
#include <vector>

#include <onnxruntime_cxx_api.h>

#ifdef WITH_OPENCV
#include <opencv2/imgcodecs.hpp>
#include <opencv2/imgproc.hpp>
#endif

namespace {

constexpr float kGrey = 114.0F;  // border of a letterbox

struct Image {
  int height = 0, width = 0;
  std::vector<unsigned char> rgb;  // height * width * 3
};

struct Input {
  std::vector<float> data;  // 3 x H x W, RGB, 0..1
  double gain_h = 1, gain_w = 1;
  int top = 0, left = 0;
};

Image read_image(const std::string& path) {
#ifdef WITH_OPENCV
  cv::Mat bgr = cv::imread(path, cv::IMREAD_COLOR), mat;
  if (bgr.empty()) throw std::runtime_error(path + ": cannot be read as an image");
  cv::cvtColor(bgr, mat, cv::COLOR_BGR2RGB);
  return {mat.rows, mat.cols, std::vector<unsigned char>(mat.datastart, mat.dataend)};
#else
  std::ifstream file(path, std::ios::binary);
  std::string magic;
  int numbers[3] = {0, 0, 0};
  file >> magic;
  for (int& number : numbers) {
    while ((file >> std::ws).peek() == '#') file.ignore(1 << 16, '\n');
    file >> number;
  }
  Image image{numbers[1], numbers[0], {}};
  const bool sane = image.height > 0 && image.width > 0 && 1.0 * image.height * image.width < 2e8;
  if (magic != "P6" || !sane || numbers[2] != 255 || file.get() == EOF)
    throw std::runtime_error(path + ": not a binary PPM of 8 bits (built without OpenCV)");
  image.rgb.resize(static_cast<std::size_t>(image.height) * image.width * 3);
  file.read(reinterpret_cast<char*>(image.rgb.data()), static_cast<std::streamsize>(image.rgb.size()));
  if (!file) throw std::runtime_error(path + ": is cut short");
  return image;
#endif
}

// The two pixels of a side of `from` between which pixel `i` of `to` lies, and their weights in 1/2048, as in OpenCV.
struct Place {
  int first, second;
  long weight, weight2;
};

Place place(int i, int from, int to) {
  const auto at = static_cast<float>((i + 0.5) * (1.0 * from / to) - 0.5);
  int first = static_cast<int>(std::floor(at));
  float part = at - static_cast<float>(first);
  if (first < 0 || first >= from - 1) first = first < 0 ? 0 : from - 1, part = 0;
  return {first, std::min(first + 1, from - 1), std::lrint((1 - part) * 2048), std::lrint(part * 2048)};
}

Input prepare(const Image& image, int height, int width, bool letterbox) {
  Input input;
  int new_h = height, new_w = width;
  if (letterbox) {
    const double gain = std::min(1.0 * height / image.height, 1.0 * width / image.width);
    new_h = std::max(static_cast<int>(std::nearbyint(image.height * gain)), 1);
    new_w = std::max(static_cast<int>(std::nearbyint(image.width * gain)), 1);
  }
  input.gain_h = 1.0 * new_h / image.height, input.gain_w = 1.0 * new_w / image.width;
  input.top = static_cast<int>(std::nearbyint((height - new_h) / 2.0 - 0.1));
  input.left = static_cast<int>(std::nearbyint((width - new_w) / 2.0 - 0.1));
  const std::size_t plane = static_cast<std::size_t>(height) * width;
  input.data.assign(3 * plane, kGrey / 255);
  for (int y = 0; y < new_h; ++y) {
    const Place row = place(y, image.height, new_h);
    for (int x = 0; x < new_w; ++x) {
      const Place column = place(x, image.width, new_w);
      for (int c = 0; c < 3; ++c) {
        const auto mixed = [&](int at) {  // along the row, in 1/128
          const unsigned char* pixels = &image.rgb[static_cast<std::size_t>(at) * image.width * 3 + c];
          return (pixels[column.first * 3] * column.weight + pixels[column.second * 3] * column.weight2) >> 4;
        };
        const long upper = row.weight * mixed(row.first) >> 16, lower = row.weight2 * mixed(row.second) >> 16;
        const std::size_t pixel = static_cast<std::size_t>(y + input.top) * width + x + input.left;
        input.data[c * plane + pixel] = static_cast<float>((upper + lower + 2) >> 2) / 255;
      }
    }
  }
  return input;
}

// Rows (K, 6): cx, cy, w, h in 0..1 of the input, score, class. Prints the boxes in pixels of the image, best first.
void print_boxes(const float* rows, std::size_t count, const Image& image, const Input& input, int height, int width,
                 float conf) {
  for (std::size_t k = 0; k < count; ++k, rows += 6) {
    if (!(rows[4] > conf) || !std::isfinite(rows[0] + rows[1] + rows[2] + rows[3])) continue;
    const auto side = [](double at, double gain, int most) { return std::clamp(at / gain, 0.0, 1.0 * most); };
    const auto x = [&](double v) { return side(v * width - input.left, input.gain_w, image.width); };
    const auto y = [&](double v) { return side(v * height - input.top, input.gain_h, image.height); };
    std::printf("%d %.3f %.3f %.3f %.3f %.5f\n", static_cast<int>(rows[5]), x(rows[0] - rows[2] / 2.0),
                y(rows[1] - rows[3] / 2.0), x(rows[0] + rows[2] / 2.0), y(rows[1] + rows[3] / 2.0), rows[4]);
  }
}

class Detector {
 public:
  Detector(const std::string& path, int threads) : env_(ORT_LOGGING_LEVEL_WARNING, "detect"), session_(nullptr) {
    Ort::SessionOptions options;
    if (threads > 0) options.SetIntraOpNumThreads(threads);
    session_ = Ort::Session(env_, std::basic_string<ORTCHAR_T>(path.begin(), path.end()).c_str(), options);
    Ort::AllocatorWithDefaultOptions allocator;
    const auto about = session_.GetModelMetadata().LookupCustomMetadataMapAllocated("rtdetr-shsa", allocator);  // JSON
    letterbox_ = about && std::string(about.get()).find("\"letterbox\": true") != std::string::npos;
    const auto shape = session_.GetInputTypeInfo(0).GetTensorTypeAndShapeInfo().GetShape();
    if (shape.size() == 4 && shape[2] > 0) height_ = static_cast<int>(shape[2]);
    if (shape.size() == 4 && shape[3] > 0) width_ = static_cast<int>(shape[3]);
    const auto rows = session_.GetOutputTypeInfo(0).GetTensorTypeAndShapeInfo().GetShape();
    if (rows.size() != 3 || rows[2] != 6) throw std::runtime_error(path + ": the output is not (B, K, 6)");
  }

  void detect(const Image& image, float conf, bool print) {
    Input input = prepare(image, height_, width_, letterbox_);
    const std::vector<std::int64_t> shape{1, 3, height_, width_};
    const auto memory = Ort::MemoryInfo::CreateCpu(OrtArenaAllocator, OrtMemTypeDefault);
    const Ort::Value images =
        Ort::Value::CreateTensor<float>(memory, input.data.data(), input.data.size(), shape.data(), shape.size());
    const char* const inputs[] = {"images"};
    const char* const outputs[] = {"output0"};
    const auto found = session_.Run(Ort::RunOptions{nullptr}, inputs, &images, 1, outputs, 1);
    const auto count = static_cast<std::size_t>(found[0].GetTensorTypeAndShapeInfo().GetShape()[1]);
    if (print) print_boxes(found[0].GetTensorData<float>(), count, image, input, height_, width_, conf);
  }

 private:
  Ort::Env env_;
  Ort::Session session_;
  bool letterbox_ = false;
  int height_ = 640, width_ = 640;  // of a dynamic file
};

}  // namespace

int main(int argc, char** argv) try {
  if (argc < 3) {
    std::fprintf(stderr, "usage: %s MODEL IMAGE [CONFIDENCE [RUNS [THREADS]]]\n", argv[0]);
    return 2;
  }
  const float conf = argc > 3 ? std::strtof(argv[3], nullptr) : 0.25F;
  const int runs = argc > 4 ? std::atoi(argv[4]) : 0, threads = argc > 5 ? std::atoi(argv[5]) : 0;
  Detector detector(argv[1], threads);
  const Image image = read_image(argv[2]);
  detector.detect(image, conf, true);
  std::vector<double> spent;
  for (int i = 0; i < runs; ++i) {
    const auto start = std::chrono::steady_clock::now();
    detector.detect(image, conf, false);
    spent.push_back(std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - start).count());
  }
  if (!spent.empty()) {
    std::nth_element(spent.begin(), spent.begin() + runs / 2, spent.end());
    std::fprintf(stderr, "median of %d runs: %.2f ms\n", runs, spent[runs / 2]);
  }
  return 0;
} catch (const std::exception& error) {
  std::fprintf(stderr, "%s\n", error.what());
  return 1;
}
