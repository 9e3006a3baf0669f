#pragma once

#include <memory>

#include "kernels/target.h"

namespace moat::kernels {

// How float32 convolutions run on a CPU: by oneDNN's own convolutions, or as oneDNN's products of
// unrolled patches. With AVX-512 the first reach the machine's peak. Below it they reach half of
// the peak on NHWC images, the products three quarters.
enum class ConvAlgorithm { library, products };
ConvAlgorithm fastest_conv_algorithm();

// The state that library calls need: oneDNN engine and stream, primitives cached by shape. One
// context serves one thread at a time; kernels of ours that call no library accept nullptr.
class Context {
 public:
  explicit Context(ConvAlgorithm conv = fastest_conv_algorithm());
  ~Context();
  Context(const Context&) = delete;
  Context& operator=(const Context&) = delete;

  class Primitives;  // kernels/library/onednn.h
  Primitives& primitives() { return *primitives_; }
  ConvAlgorithm conv_algorithm() const { return conv_; }

  // How float32 convolutions and dense products run on a GPU.
  Precision precision() const { return precision_; }
  void set_precision(Precision precision) { precision_ = precision; }

  // The CUDA libraries' handles and plans: kernels/library/cuda_libraries.h makes them on first
  // use.
  std::shared_ptr<void>& cuda_libraries() { return cuda_libraries_; }

 private:
  ConvAlgorithm conv_;
  Precision precision_ = Precision::float32;
  std::shared_ptr<void> cuda_libraries_;
  std::unique_ptr<Primitives> primitives_;
};

// True when convolutions and products can run in this floating format on this machine.
bool supports(Cpu, Dtype dtype);
bool supports(Cuda, Dtype dtype);

}  // namespace moat::kernels
