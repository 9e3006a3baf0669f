#pragma once

#include <functional>
#include <unordered_map>
#include <vector>

#include "engine/tensor.h"

namespace moat::engine {

using Needs = std::vector<bool>;  // which inputs want a gradient
// d_outputs -> d_inputs; an undefined tensor stands for a zero gradient. Pure: only the tape adds.
using Vjp = std::function<Tensors(const Tensors& d_outputs, const Needs& needs)>;

// What the tape would do with the gradient of an op's first input next. Both are undefined where
// there is nothing to do.
struct Finish {
  Tensor added;  // the gradient that the input has by other ways, to be added
  Tensor mask;   // the input, a relu's result: the sum's elements become 0 where it is <= 0
};
// A VJP that does it itself, on the way out of its kernel.
using FinishingVjp =
    std::function<Tensors(const Tensors& d_outputs, const Needs& needs, const Finish& finish)>;

// Where an output comes from, which decides what its gradient goes through first. A relu's
// derivative is the tape's business: the VJP gets the gradient behind it.
enum class Source { any, relu };

// Whether an op's VJP does what Finish says.
enum class Finishes { no, yes };

// Gradients by variable, as Tape::gradients() returns them.
class Gradients {
 public:
  // The gradient of a watched tensor; undefined when the loss does not depend on it.
  Tensor of(const Tensor& variable) const;

 private:
  friend class Tape;
  struct Sum {
    Tensor value;
    bool behind_relu = false;
  };
  Sum take(VarId var);
  void add(VarId var, const Tensor& gradient);
  std::unordered_map<VarId, Sum> by_var_;
};

// Whether a tape's saved tensors are needed again after a backward pass.
enum class BackwardPass { last, not_last };

// Records ops while it is alive; tapes nest, and nothing is recorded without one. Creation order is
// topological order, so the backward pass is one reverse loop. A tape sees only variables born
// after it: to an attack's inner tape the outer tape's parameters are constants, and no weight
// gradient is ever computed for them.
class Tape {
 public:
  Tape();
  ~Tape();
  Tape(const Tape&) = delete;
  Tape& operator=(const Tape&) = delete;

  static Tape* active();

  // The same bytes, now a variable of this tape.
  Tensor watch(const Tensor& x) const;
  // True when `x` is a variable that this tape differentiates with respect to.
  bool sees(const Tensor& x) const { return x.var() > first_var_; }

  // Vector-Jacobian product: gradients of sum(output * seed) for every variable reached. The seed
  // has the output's shape and type, which is checked; it is 1 for a one-element output unless
  // given. The last pass consumes the tape: saved tensors are freed on the way.
  Gradients gradients(const Tensor& output, const Tensor& seed = {},
                      BackwardPass pass = BackwardPass::last);

  void record(const char* op, const Tensors& inputs, Tensors& outputs, FinishingVjp vjp,
              Finishes finishes, Source source);

 private:
  struct Node {
    const char* op;
    std::vector<VarId> inputs, outputs;
    FinishingVjp vjp;
    bool finishes;       // its first input's gradient
    Tensor mask;         // what that goes through then: this node is the last to add to it
    Tensor relu_output;  // the output, when a relu gave it
  };
  static void pull_back(const Node& node, Gradients& grads);
  std::vector<Node> nodes_;
  std::unordered_map<VarId, Tensor> unread_;  // outputs of relus that no op has read yet
  VarId first_var_;
  Tape* outer_;
};

// Suspends recording: ops inside see no tape.
class NoTapeScope {
 public:
  NoTapeScope();
  ~NoTapeScope();
  NoTapeScope(const NoTapeScope&) = delete;
  NoTapeScope& operator=(const NoTapeScope&) = delete;

 private:
  Tape* outer_;
};

// True when the active tape would record an op with this input; ops use it to skip saving.
bool is_differentiated(const Tensor& x);

// Called at the end of every differentiable op: marks the outputs as variables if an input is one.
Tensors recorded(const char* op, const Tensors& inputs, Tensors outputs, Vjp vjp);
Tensor recorded(const char* op, const Tensors& inputs, const Tensor& output, Vjp vjp,
                Source source = Source::any);
Tensor recorded_finishing(const char* op, const Tensors& inputs, const Tensor& output,
                          FinishingVjp vjp, Source source = Source::any);

}  // namespace moat::engine
