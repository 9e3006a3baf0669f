#pragma once

// Included by the .cpp files that call oneDNN, and by nobody else.

#include <omp.h>

#include <array>
#include <dnnl.hpp>
#include <initializer_list>
#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

#include "kernels/library/context.h"
#include "kernels/workspace_pieces.h"

namespace moat::kernels {

// A primitive with its memory objects: a call in steady state sets addresses and executes.
class Planned {
 public:
  struct Argument {
    int id;  // DNNL_ARG_…
    dnnl::memory::desc desc;
  };
  Planned(const dnnl::engine& engine, dnnl::primitive primitive,
          const std::vector<Argument>& arguments, const dnnl::memory::desc& scratch);

  size_t scratch_bytes() const { return scratch_bytes_; }
  std::string implementation() const;  // oneDNN's name of it; "ref…" is its slow reference code
  // `addresses` in the order of the arguments, nullptr for one that this plan does not take; then
  // scratch_bytes() of scratch memory.
  void run(const dnnl::stream& stream, std::initializer_list<const void*> addresses, void* scratch);

 private:
  dnnl::primitive primitive_;
  std::vector<dnnl::memory> memories_;
  std::vector<dnnl_exec_arg_t> call_;
  size_t scratch_bytes_;
};

// Which plan: its kind, then whatever distinguishes two plans of a kind.
using PlanKey = std::array<int, 12>;
enum class PlanKind : int { conv2d, gemm, patches };

// oneDNN's engine, stream and the plans already made.
class Context::Primitives {
 public:
  dnnl::engine engine{dnnl::engine::kind::cpu, 0};
  dnnl::stream stream{engine};

  // The plan of this key, made by make() -> std::unique_ptr<Plan> when it is asked for first.
  template <class Plan, class Make>
  Plan& plan(const PlanKey& key, Make&& make) {
    std::shared_ptr<void>& slot = plans_[key];
    if (!slot) slot = std::shared_ptr<Plan>(make());
    return *static_cast<Plan*>(slot.get());
  }

 private:
  struct Hash {
    size_t operator()(const PlanKey& key) const {
      uint64_t h = 0;
      for (int word : key) h = (h ^ static_cast<uint32_t>(word)) * 0x9e3779b97f4a7c15u;
      return h ^ (h >> 32);
    }
  };
  std::unordered_map<PlanKey, std::shared_ptr<void>, Hash> plans_;
};

dnnl::memory::data_type onednn_type(Dtype dtype);

// Scratch memory belongs to the caller.
dnnl::primitive_attr with_user_scratch();

// Runs f() -> Status; what oneDNN throws becomes a status.
template <class F>
Status guarded(F&& f) {
  try {
    return f();
  } catch (const dnnl::error& e) {
    return e.status == dnnl_unimplemented ? Status::unsupported : Status::library_failed;
  }
}

// The library's products must not start threads inside ours.
class OneThreadScope {
 public:
  OneThreadScope() : threads_(omp_get_max_threads()) { omp_set_num_threads(1); }
  ~OneThreadScope() { omp_set_num_threads(threads_); }
  OneThreadScope(const OneThreadScope&) = delete;
  OneThreadScope& operator=(const OneThreadScope&) = delete;

 private:
  int threads_;
};

}  // namespace moat::kernels
