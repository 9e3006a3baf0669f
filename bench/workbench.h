#pragma once

#include <functional>
#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <vector>

#include "kernels/library/context.h"
#include "kernels/target.h"

namespace moat::bench {

// How long one row of a benchmark may take: calls are repeated until their times agree, at most
// `seconds` in all, but at least `least` times.
struct Budget {
  double seconds = 0.2;
  int least = 3, most = 200;
};

struct Quartiles {
  double low, median, high;
};
Quartiles quartiles(std::vector<double> values);  // by interpolation; of at least one value

// True when half of the values lie within 2 % of the median and a third of the budget is spent, or
// when all of it is.
bool is_enough(const std::vector<double>& seconds, const Budget& budget, double spent);

// Memory and clock of the target that kernels are measured on. Throws engine::Error.
class Workbench {
 public:
  virtual ~Workbench() = default;
  // 256-byte aligned, freed with its last owner.
  virtual std::shared_ptr<void> allocate(size_t bytes) = 0;
  virtual void upload(void* to, const void* from, size_t bytes) = 0;
  // Fills `bytes` with copies of a pattern that lies in the host's memory.
  virtual void repeat(void* to, size_t bytes, const void* pattern, size_t pattern_bytes) = 0;
  // Seconds of single calls, after one that is not measured.
  virtual std::vector<double> seconds(const std::function<kernels::Status()>& run,
                                      const Budget& budget) = 0;
  // What the machine's clocks are right now, an object; empty where that cannot be read.
  virtual nlohmann::ordered_json clocks() const = 0;
};

class CpuWorkbench : public Workbench {
 public:
  kernels::Cpu target() { return {.context = &context_}; }
  std::shared_ptr<void> allocate(size_t bytes) override;
  void upload(void* to, const void* from, size_t bytes) override;
  void repeat(void* to, size_t bytes, const void* pattern, size_t pattern_bytes) override;
  std::vector<double> seconds(const std::function<kernels::Status()>& run,
                              const Budget& budget) override;
  nlohmann::ordered_json clocks() const override;

 private:
  kernels::Context context_;
};

}  // namespace moat::bench
