#pragma once

#include <vector>

#include "kernels/cuda.cuh"

namespace simt::self_test {

// Ints on the device, set to 0, 1, 2 …, or never written.
class Ints {
 public:
  explicit Ints(int count, bool set = true) : count_(count) {
    cudaMalloc(&data_, count * sizeof(int));
    std::vector<int> values(count);
    for (int i = 0; i < count; ++i) values[i] = i;
    if (set) cudaMemcpy(data_, values.data(), count * sizeof(int), cudaMemcpyHostToDevice);
  }
  ~Ints() { cudaFree(data_); }
  Ints(const Ints&) = delete;
  Ints& operator=(const Ints&) = delete;

  operator int*() const { return data_; }
  std::vector<int> host() const {
    std::vector<int> values(count_);
    cudaMemcpy(values.data(), data_, count_ * sizeof(int), cudaMemcpyDeviceToHost);
    return values;
  }

 private:
  int* data_ = nullptr;
  int count_;
};

template <class... Params, class... Args>
void run(dim3 blocks, dim3 threads, void (*kernel)(Params...), const Args&... args) {
  moat::kernels::launch({}, {blocks, threads}, kernel, args...);
}

}  // namespace simt::self_test
