#include "bench/masked_advmoe.h"

#include <map>

#include "engine/ops/elementwise.h"
#include "engine/ops/linalg.h"
#include "engine/ops/loss.h"
#include "engine/ops/norm.h"
#include "engine/ops/reduce.h"
#include "engine/ops/shape.h"
#include "engine/tape.h"
#include "train/objective.h"

namespace moat::bench {

using namespace engine;
using namespace train;

namespace {

// A MoE classifier with projection shortcuts, read through the names of its tensors and run the
// mask-everything way.
class MaskedNet {
 public:
  explicit MaskedNet(models::Classifier& model) : settings_(model.settings()) {
    for (const NamedTensor& t : state_of(model)) tensors_[t.name] = t.value;
  }

  models::Prediction forward(const Tensor& x, Mode mode, bool gate_is_open) const {
    models::Prediction out;
    out.scores = router(x, mode);
    out.experts = argmax(out.scores.detached(), 1);
    const int64_t n = x.dim(0), experts = settings_.experts;
    Tensor one_hot = Tensor::zeros({n, experts});
    for (int64_t i = 0; i < n; ++i)
      one_hot.data_as<float>()[i * experts + out.experts.data_as<int32_t>()[i]] = 1;
    if (gate_is_open)
      one_hot = mul(
          one_hot, reshape(straight_through_gate(out.scores, out.experts, settings_.gate), {n, 1}));
    out.logits = net("", x, mode, settings_.blocks, Shortcuts::projection,
                     reshape(one_hot, {n, 1, 1, experts, 1}));
    return out;
  }

 private:
  enum class Shortcuts { projection, pad };

  const Tensor& at(const std::string& name) const { return *tensors_.at(name); }

  Tensor router(const Tensor& x, Mode mode) const {
    const Tensor scores =
        net("router.", x, mode, settings_.router_blocks, Shortcuts::pad, Tensor{});
    return norm("router.score_norm", scores, mode, {}, Activation::none);
  }

  Tensor norm(const std::string& name, const Tensor& x, Mode mode, const Tensor& residual,
              Activation activation) const {
    const auto find = [&](const char* part) {
      const auto it = tensors_.find(name + part);
      return it == tensors_.end() ? Tensor{} : *it->second;
    };
    const auto op = mode == Mode::train ? batch_norm_train : batch_norm_eval;
    return op(x, find(".weight"), find(".bias"), find(".running_mean"), find(".running_var"),
              residual, activation, {});
  }

  // mask [n, 1, 1, experts, 1] or undefined for a dense convolution.
  Tensor unit(const std::string& conv, const std::string& bn, const Tensor& x, Mode mode,
              const Conv2dOptions& options, const Tensor& mask, const Tensor& residual,
              Activation activation) const {
    Tensor y = conv2d(x, at(conv + ".weight"), options);
    if (mask.defined()) {
      const int64_t n = y.dim(0), h = y.dim(1), w = y.dim(2), experts = mask.dim(3);
      y = reshape(y, {n, h, w, experts, y.dim(3) / experts});
      y = sum(mul(y, mask), 3);
    }
    return norm(bn, y, mode, residual, activation);
  }

  Tensor net(const std::string& prefix, const Tensor& x, Mode mode, const std::vector<int>& blocks,
             Shortcuts shortcuts, const Tensor& mask) const {
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
        else if (shortcuts == Shortcuts::pad && (stride != 1 || y.dim(3) != width))
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
};

Tensor attack(const MaskedNet& net, const data::Batch& batch, const StepSettings& step) {
  const NoTapeScope not_recorded;
  const attacks::Model model{.forward =
                                 [&](const Tensor& images, attacks::Gate gate) {
                                   const auto p =
                                       net.forward(images, Mode::eval, gate == attacks::Gate::open);
                                   return attacks::Outputs{p.logits, p.experts};
                                 },
                             .routed = true};
  const attacks::Gate gate =
      step.train.gate == "through" ? attacks::Gate::open : attacks::Gate::blocked;
  const attacks::Victims victims{batch.images, batch.labels, batch.ids,
                                 model.forward(batch.images, gate).logits};
  return attacks::pgd(model, victims,
                      {.threat = {.eps = step.train.eps},
                       .steps = step.train.steps,
                       .step = step.train.step > 0 ? step.train.step : step.train.eps / 4,
                       .start = attacks::Start::gaussian,
                       .loss = attacks::Loss::kl_divergence,
                       .gate = gate,
                       .keep = attacks::Keep::last,
                       .seed = step.seed})
      .adversarial;
}

double level(const MaskedNet& net, FlatParameters& group, double learning_rate, double balance,
             const data::Batch& batch, const StepSettings& step) {
  const Tensor adversarial = attack(net, batch, step);
  Tape tape;
  group.watch(tape);
  const models::Prediction clean = net.forward(batch.images, Mode::train, true);
  const models::Prediction attacked = net.forward(adversarial, Mode::train, true);
  const Tensor robust = mean(kl_divergence(clean.logits, attacked.logits));
  Tensor loss =
      add(mean_cross_entropy(clean.logits, batch.labels, 0), scale(robust, step.train.beta));
  if (balance > 0) loss = add(loss, scale(balance_loss(clean), balance));
  descend(tape, loss, {&group}, {learning_rate}, step.train);
  return loss.item();
}

}  // namespace

StepStatistics masked_advmoe_step(Learner& learner, const data::Batch& batch,
                                  const StepSettings& step) {
  const MaskedNet net(learner.model);
  level(net, learner.experts, step.learning_rate, 0, batch, step);
  StepStatistics out;
  out.images = batch.size();
  out.loss =
      level(net, *learner.router, step.router_learning_rate, step.train.balance, batch, step) *
      static_cast<double>(batch.size());
  return out;
}

}  // namespace moat::bench
