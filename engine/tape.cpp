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
  return it == by_var_.end() ? Tensor{} : it->second;
}

Tensor Gradients::take(VarId var) {
  const auto it = by_var_.find(var);
  if (it == by_var_.end()) return {};
  Tensor gradient = std::move(it->second);
  by_var_.erase(it);
  return gradient;
}

void Gradients::add(VarId var, const Tensor& gradient) {
  if (!gradient.defined()) return;
  const auto [it, fresh] = by_var_.try_emplace(var, gradient);
  if (!fresh) it->second = engine::add(it->second, gradient);
}

Tape::Tape() : first_var_(next_var()), outer_(active_tape) { active_tape = this; }
Tape::~Tape() { active_tape = outer_; }
Tape* Tape::active() { return active_tape; }

Tensor Tape::watch(const Tensor& x) const { return x.as_variable(next_var()); }

void Tape::record(const char* op, const Tensors& inputs, Tensors& outputs, Vjp vjp) {
  if (std::none_of(inputs.begin(), inputs.end(), [&](const Tensor& x) { return sees(x); })) return;
  Node node{op, {}, {}, std::move(vjp)};
  node.inputs.reserve(inputs.size());
  for (const Tensor& x : inputs) node.inputs.push_back(sees(x) ? x.var() : 0);
  for (Tensor& y : outputs) {
    y = y.as_variable(next_var());
    node.outputs.push_back(y.var());
  }
  nodes_.push_back(std::move(node));
}

Gradients Tape::gradients(const Tensor& output, const Tensor& seed, BackwardPass pass) {
  require(seed.defined() ? seed.shape() == output.shape() : output.size() == 1, [&] {
    return text("Tape::gradients: an output of shape ", output.shape().str(),
                " needs a seed of its shape");
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
    for (; !nodes_.empty(); nodes_.pop_back()) pull_back(nodes_.back(), grads);
  return grads;
}

// The gradients of the node's outputs become those of its inputs.
void Tape::pull_back(const Node& node, Gradients& grads) {
  Tensors d_outputs;
  d_outputs.reserve(node.outputs.size());
  for (VarId var : node.outputs) d_outputs.push_back(grads.take(var));
  if (std::none_of(d_outputs.begin(), d_outputs.end(), [](const Tensor& d) { return d.defined(); }))
    return;
  const Needs needs(node.inputs.begin(), node.inputs.end());
  const Tensors d_inputs = node.vjp(d_outputs, needs);
  require(d_inputs.size() == needs.size(),
          [&] { return text(node.op, ": the VJP must return one gradient per input"); });
  for (size_t i = 0; i < d_inputs.size(); ++i)
    if (needs[i]) grads.add(node.inputs[i], d_inputs[i]);
}

NoTapeScope::NoTapeScope() : outer_(active_tape) { active_tape = nullptr; }
NoTapeScope::~NoTapeScope() { active_tape = outer_; }

bool is_differentiated(const Tensor& x) {
  return active_tape && x.defined() && active_tape->sees(x);
}

Tensors recorded(const char* op, const Tensors& inputs, Tensors outputs, Vjp vjp) {
  if (active_tape) active_tape->record(op, inputs, outputs, std::move(vjp));
  return outputs;
}

Tensor recorded(const char* op, const Tensors& inputs, const Tensor& output, Vjp vjp) {
  return recorded(op, inputs, Tensors{output}, std::move(vjp))[0];
}

}  // namespace moat::engine
