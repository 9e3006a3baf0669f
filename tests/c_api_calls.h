#pragma once

// One legal call of every function of kernels/c_api.h, for tests that break them one at a time.

#include <cstring>
#include <deque>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "kernels/c_api.h"

namespace moat::tests {

inline constexpr DLDataType kFloat32{kDLFloat, 32, 1}, kFloat64{kDLFloat, 64, 1},
    kBfloat16{kDLBfloat, 16, 1}, kInt32{kDLInt, 32, 1};

enum class Use { in, in_or_null, out, out_or_null };

// A tensor of a call, in memory of its own. Inputs are zeros, or small indices; results start as
// poison.
struct TensorOfCall {
  std::string name;
  Use use;
  DLTensor dl{};
  std::vector<int64_t> shape, strides;
  std::vector<double> memory;                // as aligned as any element
  std::function<void(DLTensor*)> set_field;  // points the struct's field at a tensor

  bool is_written() const { return use == Use::out || use == Use::out_or_null; }
  bool is_optional() const { return use == Use::in_or_null || use == Use::out_or_null; }
  size_t bytes() const;
  bool is_poisoned() const;
  float* floats() { return reinterpret_cast<float*>(memory.data()); }
  int32_t* ints() { return reinterpret_cast<int32_t*>(memory.data()); }
};

class LegalCall {
 public:
  std::string name;
  moat_target on{};
  std::function<moat_status(const moat_target*)> run;
  std::function<moat_status(const moat_target*, size_t*)> workspace;  // where there is one
  std::deque<TensorOfCall> tensors;

  TensorOfCall& tensor(const std::string& its_name);
  bool results_are_poisoned() const;

  template <class Args>
  void takes(std::shared_ptr<Args> args, moat_status (*function)(const moat_target*, const Args*)) {
    run = [args, function](const moat_target* target) { return function(target, args.get()); };
  }
  template <class Args>
  void takes(std::shared_ptr<Args> args, moat_status (*function)(const moat_target*, const Args*),
             moat_status (*size)(const moat_target*, const Args*, size_t*)) {
    takes(args, function);
    workspace = [args, size](const moat_target* target, size_t* bytes) {
      return size(target, args.get(), bytes);
    };
  }
  // Adds the tensor of a field, a const DLTensor* or a DLTensor*.
  template <class Field>
  TensorOfCall& add(const char* its_name, Field& field, Use use, DLDataType type,
                    std::vector<int64_t> shape) {
    TensorOfCall& t = add(its_name, use, type, std::move(shape));
    t.set_field = [&field](DLTensor* tensor) { field = tensor; };
    field = &t.dl;
    return t;
  }
  // Scratch memory as the call asks for it, where it does; to be called with all tensors there.
  void get_workspace();

 private:
  TensorOfCall& add(const char* its_name, Use use, DLDataType type, std::vector<int64_t> shape);
  std::vector<std::byte> scratch_;
};

// 5 tokens, 3 experts, k = 2, width 4, inner 6, float32 (the gate: of this type).
std::vector<std::function<LegalCall(moat_context*)>> legal_calls();

}  // namespace moat::tests
