#pragma once

#include <cstdint>

#include "kernels/target.h"

namespace moat::kernels {

// Batch normalisation (Ioffe and Szegedy 2015) of x [rows, channels], rows = n·h·w of an NHWC
// image:
//   y = activation(gamma (x - mean) inv_std + beta + residual),  inv_std = 1 / sqrt(var + epsilon)
// Everything per channel is float32, float64 for a float64 x. gamma and beta may be nullptr (1 and
// 0), residual too (0). NaN passes through the activation.
enum class NormActivation : uint8_t { none, relu };

// With the statistics of the batch: mean and biased variance over the rows, from fixed blocks of
// rows (two passes inside a block while it is in cache, then combined in float64 in ascending
// order), so the bits do not depend on the number of threads. CUDA reads x once for them: float32
// sums (float64 for a float64 x) of at most 128 differences from a value of the channel, combined
// in float64 in a fixed order; the bits depend on the shape, and on whether all matrices are
// aligned to 16 bytes. NaN or an infinity in x makes its channel of y NaN. running_* may be
// nullptr; else
//   running = (1 - momentum) running + momentum · batch, the variance unbiased.
struct BatchNormTrain {
  const void* x;         // [rows, channels], rows >= 2
  const void* gamma;     // [channels]
  const void* beta;      // [channels]
  const void* residual;  // [rows, channels]
  void* y;               // [rows, channels]
  void* mean;            // [channels], kept for the gradient
  void* inv_std;         // [channels], kept for the gradient
  void* running_mean;    // [channels]
  void* running_var;     // [channels]
  int64_t rows;
  int channels;
  double momentum, epsilon;
  NormActivation activation;
  Dtype dtype;
};
size_t batch_norm_train_workspace(Cpu, const BatchNormTrain&);
size_t batch_norm_train_workspace(Cuda, const BatchNormTrain&);
Status batch_norm_train(Cpu, const BatchNormTrain&);
Status batch_norm_train(Cuda, const BatchNormTrain&);

// With given statistics.
struct BatchNormEval {
  const void* x;         // [rows, channels]
  const void* gamma;     // [channels]
  const void* beta;      // [channels]
  const void* mean;      // [channels]
  const void* var;       // [channels]
  const void* residual;  // [rows, channels]
  void* y;               // [rows, channels]
  void* inv_std;         // [channels], kept for the gradient
  int64_t rows;
  int channels;
  double epsilon;
  NormActivation activation;
  Dtype dtype;
};
size_t batch_norm_eval_workspace(Cpu, const BatchNormEval&);
size_t batch_norm_eval_workspace(Cuda, const BatchNormEval&);
Status batch_norm_eval(Cpu, const BatchNormEval&);
Status batch_norm_eval(Cuda, const BatchNormEval&);

// Of the d of what the activation sees, which is d_residual too; x^ = (x - mean) inv_std.
//   d_beta = sum d, d_gamma = sum d x^
//   d_x = gamma inv_std d                                         statistics constant
//   d_x = gamma inv_std (d - (d_beta + x^ d_gamma) / rows)        statistics of the batch
// Any of the outputs may be nullptr. x is read for d_gamma, d_beta and statistics of the batch.
enum class NormStatistics : uint8_t { constant, batch };
struct BatchNormGrad {
  const void* d;        // [rows, channels]
  const void* x;        // [rows, channels]
  const void* gamma;    // [channels]
  const void* mean;     // [channels]
  const void* inv_std;  // [channels]
  void* d_x;            // [rows, channels]
  void* d_gamma;        // [channels]
  void* d_beta;         // [channels]
  int64_t rows;
  int channels;
  NormStatistics statistics;
  Dtype dtype;
};
size_t batch_norm_grad_workspace(Cpu, const BatchNormGrad&);
size_t batch_norm_grad_workspace(Cuda, const BatchNormGrad&);
Status batch_norm_grad(Cpu, const BatchNormGrad&);
Status batch_norm_grad(Cuda, const BatchNormGrad&);

// A convolution with the norm behind it folded in, float32 or float64:
//   folded[o, :] = filter[o, :] gamma[o] inv_std[o],  bias[o] = beta[o] - mean[o] gamma[o]
//   inv_std[o]
struct BatchNormFold {
  const void* filter;  // [channels, filter_size]
  const void* gamma;   // [channels]
  const void* beta;    // [channels]
  const void* mean;    // [channels]
  const void* var;     // [channels]
  void* folded;        // [channels, filter_size]
  void* bias;          // [channels]
  int channels;
  int64_t filter_size;
  double epsilon;
  Dtype dtype;
};
Status batch_norm_fold(Cpu, const BatchNormFold&);
Status batch_norm_fold(Cuda, const BatchNormFold&);

}  // namespace moat::kernels
