#include "engine/optim/flat.h"

#include <cmath>

#include "engine/ops/elementwise.h"
#include "engine/ops/finite.h"
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
  values_ = Tensor::empty({offsets_.back()});
  gradients_ = Tensor::zeros({offsets_.back()});
  velocity_ = Tensor::zeros({offsets_.back()});
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

void FlatParameters::step(const SgdOptions& options) {
  sgd_step(values_, gradients_, velocity_, options);
  values_.mark_written();
}

double FlatParameters::clip_gradient(double limit) {
  const double norm = std::sqrt(sum(square(gradients_)).item());
  if (norm > limit) gradients_.copy_from(scale(gradients_, limit / norm));
  return norm;
}

std::string FlatParameters::first_nonfinite(const Tensor& flat) const {
  if (count_nonfinite(flat) == 0) return {};
  for (size_t i = 0; i < members_.size(); ++i)
    if (count_nonfinite(flat.sliced(0, offsets_[i], offsets_[i + 1])) > 0) return members_[i].name;
  return {};
}

}  // namespace moat::engine
