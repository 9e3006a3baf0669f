#include "engine/optim/flat.h"

#include <algorithm>

#include "engine/ops/elementwise.h"
#include "engine/ops/reduce.h"

namespace moat::engine {

FlatParameters::FlatParameters(std::vector<NamedTensor> members)
    : members_(std::move(members)), offsets_{0} {
  for (const NamedTensor& m : members_) {
    require(m.value->dtype() == Dtype::f32, [&] {
      return text("parameters must be float32, ", m.name, " is ", name_of(m.value->dtype()));
    });
    offsets_.push_back(offsets_.back() + m.value->size());
  }
  const Device device = members_.empty() ? Device{} : members_[0].value->device();
  values_ = Tensor::empty({offsets_.back()}, Dtype::f32, device);
  gradients_ = Tensor::zeros({offsets_.back()}, Dtype::f32, device);
  velocity_ = Tensor::zeros({offsets_.back()}, Dtype::f32, device);
  lr_factor_ = Tensor::full({1}, 1, Dtype::f64, device);
  for (size_t i = 0; i < members_.size(); ++i) {
    Tensor& value = *members_[i].value;
    const Tensor room = values_.sliced(0, offsets_[i], offsets_[i + 1]).reshaped(value.shape());
    room.copy_from(value);
    value = room;
  }
}

void FlatParameters::watch(const Tape& tape) {
  for (const NamedTensor& m : members_) *m.value = tape.watch(*m.value);
}

void FlatParameters::collect(const Gradients& gradients) {
  for (size_t i = 0; i < members_.size(); ++i) {
    const Tensor room = gradients_.sliced(0, offsets_[i], offsets_[i + 1]);
    const Tensor gradient = gradients.of(*members_[i].value);
    if (gradient.defined())
      room.copy_from(gradient.contiguous().reshaped(room.shape()));
    else
      room.fill(0);
  }
}

void FlatParameters::step(const SgdOptions& options, const Tensor& failures) {
  sgd_step(values_, gradients_, velocity_, options, failures, lr_factor_, decayed_);
}

void FlatParameters::step(const AdamwOptions& options, const Tensor& failures) {
  add_second_moment();
  adamw_step(values_, gradients_, {velocity_, second_moment_, powers_}, options, failures,
             lr_factor_, decayed_);
}

void FlatParameters::decay_kernels_alone() {
  decayed_ = Tensor::zeros(values_.shape(), Dtype::u8, values_.device());
  for (size_t i = 0; i < members_.size(); ++i)
    if (members_[i].value->rank() > 1 && members_[i].name.ends_with("weight"))
      decayed_.sliced(0, offsets_[i], offsets_[i + 1]).fill(1);
}

void FlatParameters::add_second_moment() {
  if (second_moment_.defined()) return;
  second_moment_ = Tensor::zeros(values_.shape(), Dtype::f32, values_.device());
  powers_ = Tensor::full({2}, 1, Dtype::f64, values_.device());
}

void FlatParameters::climb(double gamma) {
  constexpr double kTiny = 1e-20;  // 0 / kTiny is 0
  for (size_t i = 0; i < members_.size(); ++i) {
    if (members_[i].value->rank() < 2) continue;
    const Tensor w = values_.sliced(0, offsets_[i], offsets_[i + 1]),
                 g = gradients_.sliced(0, offsets_[i], offsets_[i + 1]);
    const auto norm = [](const Tensor& x) { return sqrt(sum(square(x))); };
    const Tensor length = div(scale(norm(w), gamma), affine(norm(g), 1, kTiny));
    w.copy_from(add(w, mul(g, length)));
  }
}

Tensor FlatParameters::clip_gradient(double limit) {
  const Tensor norm = sqrt(sum(square(gradients_)));
  const Tensor bound = Tensor::full({}, limit, Dtype::f32, norm.device());
  gradients_.copy_from(mul(gradients_, clamp(div(bound, norm), 0, 1)));
  return norm;
}

const std::string& FlatParameters::name_at(int64_t place) const {
  const auto behind = std::upper_bound(offsets_.begin(), offsets_.end(), place);
  require(behind != offsets_.begin() && behind != offsets_.end(),
          [&] { return text("no parameter has the place ", place); });
  return members_[static_cast<size_t>(behind - offsets_.begin() - 1)].name;
}

}  // namespace moat::engine
