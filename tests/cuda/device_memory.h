#pragma once

// Device memory for the kernel tests, on a GPU or in the interpreter.

#include <catch2/catch.hpp>
#include <memory>
#include <utility>
#include <vector>

#include "kernels/cuda.cuh"

namespace moat::tests {

// What a kernel that fails to write its output leaves behind: NaN in every floating format.
inline constexpr int kPoison = 0xff;

// `count` values of T on the device, freed at the end of its life.
template <class T>
class DeviceArray {
 public:
  explicit DeviceArray(size_t count) : count_(count) {
    REQUIRE(cudaMalloc(&data_, count * sizeof(T)) == cudaSuccess);
    REQUIRE(cudaMemset(data_, kPoison, count * sizeof(T)) == cudaSuccess);
  }
  explicit DeviceArray(const std::vector<T>& values) : DeviceArray(values.size()) {
    REQUIRE(cudaMemcpy(data_, values.data(), count_ * sizeof(T), cudaMemcpyHostToDevice) ==
            cudaSuccess);
  }
  ~DeviceArray() { cudaFree(data_); }
  DeviceArray(const DeviceArray&) = delete;
  DeviceArray& operator=(const DeviceArray&) = delete;

  T* data() const { return static_cast<T*>(data_); }
  std::vector<T> host() const {
    std::vector<T> values(count_);
    REQUIRE(cudaMemcpy(values.data(), data_, count_ * sizeof(T), cudaMemcpyDeviceToHost) ==
            cudaSuccess);
    return values;
  }

 private:
  void* data_ = nullptr;
  size_t count_;
};

// `shift` values and then the given ones, which then lie so far behind an aligned address.
template <class T>
std::vector<T> shifted(std::vector<T> values, size_t shift) {
  values.insert(values.begin(), shift, T());
  return values;
}

// As above, `shift` values behind an aligned address.
template <class T>
class ShiftedArray {
 public:
  ShiftedArray(size_t count, size_t shift) : array_(count + shift), shift_(shift) {}
  ShiftedArray(std::vector<T> values, size_t shift)
      : array_(shifted(std::move(values), shift)), shift_(shift) {}

  T* data() const { return array_.data() + shift_; }
  std::vector<T> host() const {
    std::vector<T> values = array_.host();
    values.erase(values.begin(), values.begin() + static_cast<int64_t>(shift_));
    return values;
  }

 private:
  DeviceArray<T> array_;
  size_t shift_;
};

// The number formats that kernels take, and their unit roundoff.
template <class T>
inline constexpr kernels::Dtype dtype_of = kernels::Dtype::i32;
template <>
inline constexpr kernels::Dtype dtype_of<double> = kernels::Dtype::f64;
template <>
inline constexpr kernels::Dtype dtype_of<float> = kernels::Dtype::f32;
template <>
inline constexpr kernels::Dtype dtype_of<kernels::Bf16> = kernels::Dtype::bf16;
template <class T>
inline constexpr double roundoff = 0;
template <>
inline constexpr double roundoff<double> = 0x1p-53;
template <>
inline constexpr double roundoff<float> = 0x1p-24;
template <>
inline constexpr double roundoff<kernels::Bf16> = 0x1p-8;

// Rounds every value to T; what the reference then computes in float64 starts from the same
// numbers.
template <class T>
std::vector<T> rounded(const std::vector<double>& values) {
  std::vector<T> out;
  for (double x : values) out.push_back(T(static_cast<kernels::compute_t<T>>(x)));
  return out;
}
template <class T>
std::vector<double> widened(const std::vector<T>& values) {
  std::vector<double> out;
  for (T x : values) out.push_back(static_cast<kernels::compute_t<T>>(x));
  return out;
}

// Runs a kernel on the default stream with `workspace_bytes` of scratch memory and waits for it.
template <class Args>
kernels::Status run(kernels::Status (*kernel)(kernels::Cuda, const Args&), const Args& args,
                    size_t workspace_bytes = 0) {
  const DeviceArray<char> workspace(workspace_bytes);
  const kernels::Status status =
      kernel({.workspace = workspace.data(), .workspace_bytes = workspace_bytes}, args);
  REQUIRE(cudaDeviceSynchronize() == cudaSuccess);
  return status;
}
// The same on the CPU.
template <class Args>
kernels::Status run_on_cpu(kernels::Status (*kernel)(kernels::Cpu, const Args&), const Args& args,
                           size_t workspace_bytes) {
  std::vector<double> workspace(workspace_bytes / sizeof(double) + 8);
  void* aligned = workspace.data();
  size_t room = workspace.size() * sizeof(double);
  REQUIRE(std::align(64, workspace_bytes, aligned, room));
  return kernel({.workspace = aligned, .workspace_bytes = workspace_bytes}, args);
}

}  // namespace moat::tests
