#include "train/verification.h"

#include <algorithm>
#include <cmath>

#include "engine/io/safetensors.h"
#include "engine/ops/elementwise.h"
#include "engine/ops/reduce.h"
#include "engine/ops/shape.h"

namespace moat::train {

using namespace engine;

namespace {

std::vector<int32_t> predictions(models::Classifier& model, const Tensor& images, int batch) {
  std::vector<int32_t> all;
  const int64_t n = images.dim(0);
  for (int64_t from = 0; from < n; from += batch) {
    const Tensor some = images.sliced(0, from, std::min<int64_t>(n, from + batch));
    const auto predicted =
        argmax(model.forward(some.to(model.device()), Mode::eval).logits, 1).to_vector<int32_t>();
    all.insert(all.end(), predicted.begin(), predicted.end());
  }
  return all;
}

Tensor as_bytes(const Tensor& images) {
  Tensor rounded = images.clone();
  float* x = rounded.data_as<float>();
  for (int64_t i = 0; i < rounded.size(); ++i) x[i] = std::round(x[i] * 255.0F) / 255.0F;
  return rounded;
}

void measure(const Tensor& clean, const Tensor& adversarial, const attacks::ThreatModel& threat,
             Verification& out) {
  const int64_t n = clean.dim(0), pixels = n ? clean.size() / n : 0;
  for (int64_t i = 0; i < n; ++i) {
    const float* x = clean.data_as<float>() + i * pixels;
    const float* y = adversarial.data_as<float>() + i * pixels;
    double largest = 0, squares = 0;
    bool is_in_box = true, is_near = true;  // false where a pixel is not a number
    for (int64_t j = 0; j < pixels; ++j) {
      is_in_box &= y[j] >= 0 && y[j] <= 1;
      const double d = std::abs(double(y[j]) - double(x[j]));
      is_near &= d <= threat.eps;
      largest = std::max(largest, d);
      squares += d * d;
    }
    const double l2 = std::sqrt(squares);
    out.largest_linf = std::max(out.largest_linf, largest);
    out.largest_l2 = std::max(out.largest_l2, l2);
    out.outside_box += !is_in_box;
    out.outside_ball += threat.norm == Norm::linf ? !is_near : !(l2 <= threat.eps * (1 + 1e-6));
  }
}

}  // namespace

Verification verify(models::Classifier& model, const Evaluation& e, const data::ImageSet& set,
                    const attacks::ThreatModel& threat, int batch,
                    const std::filesystem::path& file) {
  const Tensor stored = nhwc_from_nchw(read_safetensors(file).tensors.at("adversarial"));
  Verification out;
  measure(data::batch_of(set).images, stored, threat, out);
  const int other = std::max(1, batch * 2 / 3);
  const auto again = predictions(model, stored, other);
  const auto coarse = predictions(model, as_bytes(stored), other);
  for (size_t i = 0; i < again.size(); ++i) {
    const attacks::SampleResult& s = e.samples[i];
    const int label = set.labels[i];
    out.changed += again[i] != s.adversarial_prediction;
    out.contradicted += s.is_robust(label) != (s.adversarial_prediction == label);
    out.robust_as_bytes += s.is_correct(label) && coarse[i] == label;
  }
  return out;
}

}  // namespace moat::train
