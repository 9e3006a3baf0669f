#include "engine/tape.h"

#include <algorithm>
#include <atomic>

#include "engine/ops/elementwise.h"

namespace moat::engine {

namespace {
thread_local Tape* active_tape = nullptr;

VarId next_var() {
  static std::atomic<VarId> count{0};
  return ++count;
}
}  // namespace

Tensor Gradients::of(const Tensor& variable) const {
  const auto it = by_var_.find(variable.var());
  return it == by_var_.end() ? Tensor{} : it->second.value;
}

Gradients::Sum Gradients::take(VarId var) {
  const auto it = by_var_.find(var);
  if (it == by_var_.end()) return {};
  Sum sum = std::move(it->second);
  by_var_.erase(it);
  return sum;
}

void Gradients::add(VarId var, const Tensor& gradient) {
  if (!gradient.defined()) return;
  const auto [it, fresh] = by_var_.try_emplace(var, Sum{gradient});
  if (!fresh) it->second.value = engine::add(it->second.value, gradient);
}

Tape::Tape() : first_var_(next_var()), outer_(active_tape) { active_tape = this; }
Tape::~Tape() { active_tape = outer_; }
Tape* Tape::active() { return active_tape; }

Tensor Tape::watch(const Tensor& x) const { return x.as_variable(next_var()); }

void Tape::record(const char* op, const Tensors& inputs, Tensors& outputs, FinishingVjp vjp,
                  Finishes finishes, Source source) {
  if (std::none_of(inputs.begin(), inputs.end(), [&](const Tensor& x) { return sees(x); })) return;
  Node node{op, {}, {}, std::move(vjp), finishes == Finishes::yes, {}, {}};
  node.inputs.reserve(inputs.size());
  for (const Tensor& x : inputs) node.inputs.push_back(sees(x) ? x.var() : 0);
  // What an op reads twice has a gradient that is not whole yet when its kernel writes a part.
  node.finishes &= std::count(node.inputs.begin(), node.inputs.end(), node.inputs[0]) == 1;
  for (VarId var : node.inputs) {
    const auto unread = unread_.find(var);
    if (unread == unread_.end()) continue;
    if (node.finishes && var == node.inputs[0]) node.mask = unread->second;
    unread_.erase(unread);
  }
  for (Tensor& y : outputs) {
    y = y.as_variable(next_var());
    node.outputs.push_back(y.var());
  }
  if (source == Source::relu) {
    node.relu_output = outputs[0].detached();
    unread_.emplace(outputs[0].var(), node.relu_output);
  }
  nodes_.push_back(std::move(node));
}

Gradients Tape::gradients(const Tensor& output, const Tensor& seed, BackwardPass pass) {
  require(seed.defined() ? seed.shape() == output.shape() : output.size() == 1, [&] {
    return text("Tape::gradients: an output of shape ", output.shape().str(),
                " needs a seed of its shape");
  });
  require(!seed.defined() || seed.dtype() == output.dtype(), [&] {
    return text("Tape::gradients: the seed of a ", name_of(output.dtype()),
                " output must have its type, got ", name_of(seed.dtype()), "; see Tensor::to");
  });
  common_device({output, seed});
  const NoTapeScope not_recorded;
  Gradients grads;
  if (!sees(output)) return grads;
  grads.add(output.var(), seed.defined()
                              ? seed
                              : Tensor::full(output.shape(), 1, output.dtype(), output.device()));
  if (pass == BackwardPass::not_last)
    for (auto node = nodes_.rbegin(); node != nodes_.rend(); ++node) pull_back(*node, grads);
  else
    for (unread_.clear(); !nodes_.empty(); nodes_.pop_back()) pull_back(nodes_.back(), grads);
  return grads;
}

// The gradients of the node's outputs become those of its inputs.
void Tape::pull_back(const Node& node, Gradients& grads) {
  Tensors d_outputs;
  d_outputs.reserve(node.outputs.size());
  for (VarId var : node.outputs) {
    const Gradients::Sum sum = grads.take(var);
    const bool stops = node.relu_output.defined() && sum.value.defined() && !sum.behind_relu;
    d_outputs.push_back(stops ? behind_relu(sum.value, node.relu_output) : sum.value);
  }
  if (std::none_of(d_outputs.begin(), d_outputs.end(), [](const Tensor& d) { return d.defined(); }))
    return;
  const Needs needs(node.inputs.begin(), node.inputs.end());
  Finish finish;
  if (node.finishes && needs[0]) finish = {grads.take(node.inputs[0]).value, node.mask};
  const Tensors d_inputs = node.vjp(d_outputs, needs, finish);
  require(d_inputs.size() == needs.size(),
          [&] { return text(node.op, ": the VJP must return one gradient per input"); });
  for (size_t i = 0; i < d_inputs.size(); ++i)
    if (needs[i]) grads.add(node.inputs[i], d_inputs[i]);
  if (finish.mask.defined()) grads.by_var_.at(node.inputs[0]).behind_relu = true;
}

NoTapeScope::NoTapeScope() : outer_(active_tape) { active_tape = nullptr; }
NoTapeScope::~NoTapeScope() { active_tape = outer_; }

bool is_differentiated(const Tensor& x) {
  return active_tape && x.defined() && active_tape->sees(x);
}

namespace {
FinishingVjp plain(Vjp vjp) {
  return [vjp = std::move(vjp)](const Tensors& d_outputs, const Needs& needs, const Finish&) {
    return vjp(d_outputs, needs);
  };
}
}  // namespace

Tensors recorded(const char* op, const Tensors& inputs, Tensors outputs, Vjp vjp) {
  if (active_tape)
    active_tape->record(op, inputs, outputs, plain(std::move(vjp)), Finishes::no, Source::any);
  return outputs;
}

Tensor recorded(const char* op, const Tensors& inputs, const Tensor& output, Vjp vjp,
                Source source) {
  Tensors outputs{output};
  if (active_tape)
    active_tape->record(op, inputs, outputs, plain(std::move(vjp)), Finishes::no, source);
  return outputs[0];
}

Tensor recorded_finishing(const char* op, const Tensors& inputs, const Tensor& output,
                          FinishingVjp vjp, Source source) {
  Tensors outputs{output};
  if (active_tape) active_tape->record(op, inputs, outputs, std::move(vjp), Finishes::yes, source);
  return outputs[0];
}

}  // namespace moat::engine
