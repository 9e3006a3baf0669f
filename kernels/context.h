#pragma once

#include <memory>

#include "kernels/target.h"

namespace moat::kernels {

// The state that library calls need: oneDNN engine and stream, primitives cached by shape. One
// context serves one thread at a time; kernels of ours that call no library accept nullptr.
class Context {
 public:
  Context();
  ~Context();
  Context(const Context&) = delete;
  Context& operator=(const Context&) = delete;

  class Primitives;  // kernels/onednn.h
  Primitives& primitives() { return *primitives_; }

 private:
  std::unique_ptr<Primitives> primitives_;
};

// True when convolutions and products can run in this floating format on this machine.
bool supports(Cpu, Dtype dtype);
bool supports(Cuda, Dtype dtype);

}  // namespace moat::kernels
