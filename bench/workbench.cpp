#include "bench/workbench.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <new>
#include <nlohmann/json.hpp>

#include "engine/error.h"

namespace moat::bench {

Quartiles quartiles(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  const auto at = [&](double part) {
    const double place = part * static_cast<double>(values.size() - 1);
    const auto below = static_cast<size_t>(place);
    const size_t above = std::min(below + 1, values.size() - 1);
    return values[below] + (place - std::floor(place)) * (values[above] - values[below]);
  };
  return {at(0.25), at(0.5), at(0.75)};
}

bool is_enough(const std::vector<double>& seconds, const Budget& budget, double spent) {
  const int count = static_cast<int>(seconds.size());
  if (count < budget.least) return false;
  if (count >= budget.most || spent >= budget.seconds) return true;
  if (count < 9 || spent < budget.seconds / 3) return false;
  const Quartiles q = quartiles(seconds);
  return q.high - q.low < 0.02 * q.median;
}

std::shared_ptr<void> CpuWorkbench::allocate(size_t bytes) {
  constexpr size_t kAlign = 256;
  void* block = std::aligned_alloc(kAlign, (bytes + kAlign) / kAlign * kAlign);
  if (!block) throw std::bad_alloc();
  return {block, std::free};
}

void CpuWorkbench::upload(void* to, const void* from, size_t bytes) {
  std::memcpy(to, from, bytes);
}

void CpuWorkbench::repeat(void* to, size_t bytes, const void* pattern, size_t pattern_bytes) {
  for (size_t at = 0; at < bytes; at += pattern_bytes)
    std::memcpy(static_cast<char*>(to) + at, pattern, std::min(pattern_bytes, bytes - at));
}

std::vector<double> CpuWorkbench::seconds(const std::function<kernels::Status()>& run,
                                          const Budget& budget) {
  using Clock = std::chrono::steady_clock;
  engine::check(run());
  std::vector<double> out;
  double spent = 0;
  do {
    const auto from = Clock::now();
    const kernels::Status status = run();
    out.push_back(std::chrono::duration<double>(Clock::now() - from).count());
    engine::check(status);
    spent += out.back();
  } while (!is_enough(out, budget, spent));
  return out;
}

nlohmann::ordered_json CpuWorkbench::clocks() const { return nlohmann::ordered_json::object(); }

}  // namespace moat::bench
