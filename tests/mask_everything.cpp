#include "tests/mask_everything.h"

#include "engine/ops/elementwise.h"
#include "engine/ops/linalg.h"
#include "engine/ops/loss.h"
#include "engine/ops/reduce.h"
#include "engine/ops/shape.h"

namespace moat::tests {

using namespace engine;

namespace {

// [n, experts], 1 at each image's expert.
Tensor one_hot(const Tensor& experts, int64_t count, Dtype dtype) {
  const Tensor out = Tensor::zeros({experts.size(), count}, Dtype::f64);
  for (int64_t i = 0; i < experts.size(); ++i)
    out.data_as<double>()[i * count + experts.data_as<int32_t>()[i]] = 1;
  return out.to(dtype);
}

}  // namespace

MaskEverything::MaskEverything(models::Classifier& model) : settings_(model.settings()) {
  for (const NamedTensor& t : state_of(model)) tensors[t.name] = t.value->clone();
}

const Tensor& MaskEverything::at(const std::string& name) const {
  static const Tensor missing;
  const auto it = tensors.find(name);
  return it == tensors.end() ? missing : it->second;
}

Tensor MaskEverything::normed(const std::string& norm, const Tensor& x, Mode mode) const {
  const auto op = mode == Mode::train ? batch_norm_train : batch_norm_eval;
  return op(x, at(norm + ".weight"), at(norm + ".bias"), at(norm + ".running_mean"),
            at(norm + ".running_var"), {}, Activation::none, {});
}

Tensor MaskEverything::run(const Unit& unit, const Tensor& x, Mode mode,
                           const Chosen& chosen) const {
  Tensor y = conv2d(x, at(unit.conv + ".weight"), {.stride = unit.stride, .padding = unit.padding});
  if (unit.experts > 1) {
    const int64_t width = y.dim(3) / unit.experts;
    const Tensor mask = one_hot(chosen.experts, unit.experts, y.dtype());
    Tensor kept;
    for (int64_t e = 0; e < unit.experts; ++e) {
      const Tensor is_chosen = mask.sliced(1, e, e + 1).contiguous().reshaped({y.dim(0), 1, 1, 1});
      const Tensor part = mul(slice(y, 3, e * width, (e + 1) * width), is_chosen);
      kept = kept.defined() ? add(kept, part) : part;
    }
    y = chosen.gate.defined() ? mul(kept, reshape(chosen.gate, {y.dim(0), 1, 1, 1})) : kept;
  }
  return normed(unit.norm, y, mode);
}

Tensor MaskEverything::net(const std::string& prefix, const std::vector<int>& blocks, int experts,
                           const Tensor& x, Mode mode, const Chosen& chosen) const {
  Tensor y = relu(run({prefix + "conv1", prefix + "bn1"}, x, mode, chosen));
  for (size_t stage = 0; stage < blocks.size(); ++stage)
    for (int b = 0; b < blocks[stage]; ++b) {
      const std::string block = text(prefix, "layer", stage + 1, ".", b, ".");
      const int stride = stage > 0 && b == 0 ? 2 : 1;
      const Tensor z =
          relu(run({block + "conv1", block + "bn1", stride, 1, experts}, y, mode, chosen));
      const Tensor w = run({block + "conv2", block + "bn2", 1, 1, experts}, z, mode, chosen);
      Tensor shortcut = y;
      if (at(block + "downsample.0.weight").defined())
        shortcut =
            run({block + "downsample.0", block + "downsample.1", stride, 0}, y, mode, chosen);
      else if (y.shape() != w.shape())
        shortcut = subsample_pad(y, stride, to_int(w.dim(3)));
      y = relu(add(w, shortcut));
    }
  return linear(global_avg_pool(y), at(prefix + "fc.weight"), at(prefix + "fc.bias"));
}

models::Prediction MaskEverything::forward(const Tensor& images, Mode mode,
                                           models::GateGradient gradient) const {
  const Tensor x = div(sub(images, at("normalize.mean")), at("normalize.std"));
  models::Prediction out;
  out.scores = net("router.", settings_.router.blocks, 1, x, mode, {});
  if (settings_.router.score_norm) out.scores = normed("router.score_norm", out.scores, mode);
  out.experts = argmax(out.scores.detached(), 1);
  Chosen chosen{out.experts, {}};
  if (gradient == models::GateGradient::open) {
    const Tensor weights =
        settings_.gate == models::GateForm::raw ? out.scores : softmax(out.scores);
    const Tensor own =
        sum(mul(weights, one_hot(out.experts, settings_.experts, out.scores.dtype())), 1);
    chosen.gate = affine(sub(own, own.detached()), 1, 1);  // 1 forward, own's gradient backward
  }
  out.logits = net("", settings_.blocks, settings_.experts, x, mode, chosen);
  return out;
}

}  // namespace moat::tests
