#include "bench/masked_forward.h"

#include <map>
#include <memory>

#include "engine/nn/layers.h"
#include "engine/ops/elementwise.h"
#include "engine/ops/linalg.h"
#include "engine/ops/reduce.h"
#include "engine/ops/shape.h"

namespace moat::bench {

using namespace engine;

namespace {

// A MoE classifier of plain blocks, read through the names of its tensors and run the
// mask-everything way.
class MaskedNet {
 public:
  explicit MaskedNet(models::Classifier& model) : settings_(model.settings()) {
    for (const NamedTensor& t : state_of(model)) tensors_[t.name] = t.value;
    const int64_t experts = settings_.experts;
    identity_ = Tensor::zeros({experts, experts});
    for (int64_t e = 0; e < experts; ++e) identity_.data_as<float>()[e * experts + e] = 1;
    identity_ = identity_.to(at("fc.weight").dtype()).to(model.device());
  }

  models::Prediction forward(const Tensor& images, Mode mode, bool gate_is_open) {
    const Tensor x = div(sub(images, at("normalize.mean")), at("normalize.std"));
    models::Prediction out;
    out.scores = net("router.", x, mode, settings_.router.blocks, {});
    if (settings_.router.score_norm)
      out.scores = normed("router.score_norm", out.scores, mode, {}, Activation::none);
    out.experts = argmax(out.scores.detached(), 1);
    const int64_t n = x.dim(0);
    Tensor mask = gather_rows(identity_, out.experts);
    if (gate_is_open)
      mask = mul(mask,
                 reshape(straight_through_gate(out.scores, out.experts, settings_.gate), {n, 1}));
    out.logits = net("", x, mode, settings_.blocks, mask);
    return out;
  }

 private:
  const Tensor& at(const std::string& name) const { return *tensors_.at(name); }

  Tensor normed(const std::string& name, const Tensor& x, Mode mode, const Tensor& residual,
                Activation activation) const {
    const auto find = [&](const char* part) {
      const auto it = tensors_.find(name + part);
      return it == tensors_.end() ? Tensor{} : *it->second;
    };
    const auto op = mode == Mode::train ? batch_norm_train : batch_norm_eval;
    return op(x, find(".weight"), find(".bias"), find(".running_mean"), find(".running_var"),
              residual, activation, {});
  }

  // mask [n, experts], undefined for a convolution without experts.
  Tensor unit(const std::string& conv, const std::string& bn, const Tensor& x, Mode mode,
              const Conv2dOptions& options, const Tensor& mask, const Tensor& residual,
              Activation activation) {
    const int64_t experts = mask.defined() ? mask.dim(1) : 1;
    if (mode == Mode::eval && !is_differentiated(mask) &&
        !is_differentiated(at(conv + ".weight"))) {
      Tensor kept;
      for (int64_t e = 0; e < experts; ++e) {
        const Tensor y =
            folded(conv, bn, options, e, experts).forward(x, mode, nullptr, residual, activation);
        if (experts == 1) return y;
        const Tensor part =
            mul(y, mask.sliced(1, e, e + 1).contiguous().reshaped({x.dim(0), 1, 1, 1}));
        kept = kept.defined() ? add(kept, part) : part;
      }
      return kept;
    }
    Tensor y = conv2d(x, at(conv + ".weight"), options);
    if (mask.defined()) {
      const int64_t n = y.dim(0), h = y.dim(1), w = y.dim(2);
      y = reshape(y, {n, h, w, experts, y.dim(3) / experts});
      y = sum(mul(y, reshape(mask, {n, 1, 1, experts, 1})), 3);
    }
    return normed(bn, y, mode, residual, activation);
  }

  // Expert e of a convolution with its batch norm, on the model's own tensors; kept, as the folded
  // filter is.
  const ConvLayer& folded(const std::string& conv, const std::string& bn,
                          const Conv2dOptions& options, int64_t e, int64_t experts) {
    const std::string name = text(conv, ".", e);
    const auto known = folded_.find(name);
    if (known != folded_.end()) return known->second;
    const Tensor bank = at(conv + ".weight").detached();
    const int64_t width = bank.dim(0) / experts;
    ConvLayer made(bank.sliced(0, e * width, (e + 1) * width), 1, options);
    made.norm->weight = at(bn + ".weight").detached();
    made.norm->bias = at(bn + ".bias").detached();
    made.norm->running_mean = at(bn + ".running_mean");
    made.norm->running_var = at(bn + ".running_var");
    return folded_.emplace(name, std::move(made)).first->second;
  }

  Tensor net(const std::string& prefix, const Tensor& x, Mode mode, const std::vector<int>& blocks,
             const Tensor& mask) {
    Tensor y = unit(prefix + "conv1", prefix + "bn1", x, mode, {1, 1}, {}, {}, Activation::relu);
    for (size_t s = 0; s < blocks.size(); ++s)
      for (int b = 0; b < blocks[s]; ++b) {
        const std::string block = text(prefix, "layer", s + 1, ".", b, ".");
        const int stride = s > 0 && b == 0 ? 2 : 1;
        const int width = to_int(at(block + "bn1.weight").dim(0));
        Tensor shortcut = y;
        if (tensors_.contains(block + "downsample.0.weight"))
          shortcut = unit(block + "downsample.0", block + "downsample.1", y, mode, {stride, 0}, {},
                          {}, Activation::none);
        else if (stride != 1 || y.dim(3) != width)
          shortcut = subsample_pad(y, stride, width);
        const Tensor inner =
            unit(block + "conv1", block + "bn1", y, mode, {stride, 1}, mask, {}, Activation::relu);
        y = unit(block + "conv2", block + "bn2", inner, mode, {1, 1}, mask, shortcut,
                 Activation::relu);
      }
    return linear(global_avg_pool(y), at(prefix + "fc.weight"), at(prefix + "fc.bias"));
  }

  const models::ClassifierSettings& settings_;
  std::map<std::string, Tensor*> tensors_;
  Tensor identity_;  // [experts, experts]: row e is the mask of expert e
  std::map<std::string, ConvLayer> folded_;
};

}  // namespace

train::Learner::Forward masked_forward(models::Classifier& model) {
  return [net = std::make_shared<MaskedNet>(model)](
             const Tensor& images, Mode mode, models::GateGradient gate, const models::GateSeed*) {
    return net->forward(images, mode, gate == models::GateGradient::open);
  };
}

}  // namespace moat::bench
