// wgmma: the 128 threads of a warpgroup meet for every step. Operands are read when a product is
// issued and again when its group is waited for, and must be the same; in between, its accumulators
// hold NaNs of a kind that nothing else makes. Registers of an operand that are not what they were
// when last used must have been fenced since.

#include <algorithm>
#include <bit>
#include <cstring>

#include "tests/simt/core.h"
#include "tests/simt/instructions/async_proxy.h"
#include "tests/simt/instructions/fragments.h"
#include "tests/simt/ptx.h"

namespace simt {

namespace {

using moat::kernels::ptx::Major;
constexpr int kRows = 64, kDepth = 16;
constexpr uint32_t kInFlightSum = 0x7fde'adb1;  // NaN

struct Argument {
  const GroupProduct* product = nullptr;
  int pending = 0;
  uintptr_t code = 0;
  Where where;
};
const Argument& of(const void* argument) { return *static_cast<const Argument*>(argument); }

// The accumulators of all threads of one product or of several on top of one another.
struct Sums {
  std::array<float*, kWarpgroupThreads> registers;
  int columns;
  std::vector<float> values;  // [64, columns]
  int products = 0;           // under way
  bool is_fenced = true;      // since they were last written back
};
using Registers = std::array<const uint32_t*, kWarpgroupThreads>;  // of a, nullptrs when in memory
struct Product {
  Sums* sums;
  Registers rows;
  uint64_t a, b;
  Major a_major, b_major;
  int accumulate;
  uintptr_t code;
  Where where;
  std::vector<uint16_t> operands;  // a, then b, as they were at the issue
};
struct Rows {  // of an operand in registers, when it was last used
  std::vector<uint16_t> values;
  int fences;
};
struct Warpgroup {
  std::vector<std::unique_ptr<Sums>> sums;
  std::unordered_map<const uint32_t*, Rows> rows;  // by those of thread 0
  std::vector<Product> open;
  std::deque<std::vector<Product>> groups;
  int fences = 0;
};
struct Warpgroups : Extension {  // of a block
  std::unordered_map<int, Warpgroup> all;
  void at_exit() override {
    for (const auto& [index, group] : all) {
      const Product* first = group.open.empty() ? nullptr : &group.open.front();
      for (const auto& products : group.groups)
        if (!first && !products.empty()) first = &products.front();
      if (first)
        report(nullptr, 0, "in flight: warpgroup %d exits without waiting for the wgmma%s", index,
               at(first->where).c_str());
    }
  }
};
Warpgroup& warpgroup_of(std::span<Thread* const> threads) {
  return extension<Warpgroups>(*block).all[threads[0]->warpgroup()];
}

// Reads one operand, 8 elements at a time, as the threads of its rows' warps: a's 16 rows of each
// warp, b as the first and the last warp, of which a cell keeps both.
void read_operand(std::span<Thread* const> threads, uint64_t bits, Major major, int rows,
                  bool is_left, uintptr_t code, uint16_t* out) {
  const auto descriptor = moat::kernels::ptx::decode(bits);
  const int row_step = major == Major::k ? 1 : 8, k_step = major == Major::k ? 8 : 1;
  for (int row = 0; row < rows; row += row_step)
    for (int k = 0; k < kDepth; k += k_step) {
      const uint32_t address = moat::kernels::ptx::element_address(descriptor, major, row, k);
      const char* piece = static_cast<const char*>(shared_pointer(address));
      if (is_left) {
        observe_async_read(*threads[row / 16 * 32], piece, 16, Unwritten::reported, code);
      } else {
        observe_async_read(*threads[0], piece, 16, Unwritten::reported, code);
        observe_async_read(*threads[96], piece, 16, Unwritten::reported, code);
      }
      uint16_t elements[8];
      std::memcpy(elements, piece, sizeof(elements));
      for (int i = 0; i < 8; ++i)
        out[(row + (major == Major::k ? 0 : i)) * kDepth + k + (major == Major::k ? i : 0)] =
            elements[i];
    }
}
// a [64, 16], in fragments of mma.m16n8k16.
void read_registers(const Registers& rows, uint16_t* out) {
  for (int thread = 0; thread < kWarpgroupThreads; ++thread)
    for (int element = 0; element < 8; ++element) {
      const Place place = place_of_a16(thread % 32, element);
      const uint32_t word = rows[static_cast<size_t>(thread)][element / 2];
      out[(thread / 32 * 16 + place.row) * kDepth + place.column] =
          static_cast<uint16_t>(word >> element % 2 * 16);
    }
}
std::vector<uint16_t> read_operands(std::span<Thread* const> threads, const Product& p) {
  std::vector<uint16_t> operands(static_cast<size_t>((kRows + p.sums->columns) * kDepth));
  if (p.rows[0])
    read_registers(p.rows, operands.data());
  else
    read_operand(threads, p.a, p.a_major, kRows, true, p.code, operands.data());
  read_operand(threads, p.b, p.b_major, p.sums->columns, false, p.code,
               operands.data() + kRows * kDepth);
  return operands;
}

void check_descriptor(uint64_t bits, Where where) {
  const auto d = moat::kernels::ptx::decode(bits);
  const uint32_t base_offset = bits >> 49 & 7;
  if (base_offset != 0)
    fail(
        "wgmma%s: descriptor 0x%016llx has base offset %u; matrices start at a repeat of the "
        "pattern",
        at(where).c_str(), static_cast<unsigned long long>(bits), base_offset);
  if (d.stride == 0 || moat::kernels::ptx::encode(d) != bits)
    fail("wgmma%s: 0x%016llx is no descriptor", at(where).c_str(),
         static_cast<unsigned long long>(bits));
}

template <class Visit>
void for_each_sum(const Sums& sums, Visit visit) {
  for (int thread = 0; thread < kWarpgroupThreads; ++thread)
    for (int i = 0; i < sums.columns / 2; ++i) {
      const Place place = place_of_group_sum(thread, i);
      visit(sums.registers[static_cast<size_t>(thread)][i],
            static_cast<size_t>(place.row * sums.columns + place.column));
    }
}

void require_untouched(const Sums& sums, const char* when, Where where) {
  bool touched = false;
  for_each_sum(sums, [&](float& value, size_t) {
    touched = touched || std::bit_cast<uint32_t>(value) != kInFlightSum;
  });
  if (touched)
    fail("touched accumulators: those of the wgmma%s were written%s", at(where).c_str(), when);
}

Sums& sums_of(Warpgroup& group, std::span<void* const> arguments) {
  const Argument& first = of(arguments[0]);
  Sums* sums = nullptr;
  for (const auto& known : group.sums)
    if (known->registers[0] == first.product->sums) sums = known.get();
  if (!sums) sums = group.sums.emplace_back(std::make_unique<Sums>()).get();
  if (sums->products == 0) {
    if (group.fences == 0 || !sums->is_fenced)
      fail(
          "missing wgmma_fence: wgmma%s uses accumulators that ordinary code had since the last "
          "one",
          at(first.where).c_str());
    sums->columns = first.product->columns;
    for (size_t thread = 0; thread < kWarpgroupThreads; ++thread)
      sums->registers[thread] = of(arguments[thread]).product->sums;
    sums->values.resize(static_cast<size_t>(kRows * sums->columns));
    for_each_sum(*sums, [&](float& value, size_t place) {
      sums->values[place] = value;
      value = std::bit_cast<float>(kInFlightSum);
    });
  } else {
    if (sums->columns != first.product->columns)
      fail("wgmma%s: its accumulators are in use by a product of another shape",
           at(first.where).c_str());
    for (size_t thread = 0; thread < kWarpgroupThreads; ++thread)
      if (sums->registers[thread] != of(arguments[thread]).product->sums)
        fail("wgmma%s: the threads' accumulators changed while in use", at(first.where).c_str());
    require_untouched(*sums, " while it was under way", first.where);
  }
  ++sums->products;
  return *sums;
}

void require_fenced_rows(Warpgroup& group, const Product& p) {
  Rows now{{p.operands.begin(), p.operands.begin() + kRows * kDepth}, group.fences};
  const auto [known, is_new] = group.rows.try_emplace(p.rows[0], now);
  if (!is_new && known->second.values != now.values && known->second.fences == now.fences)
    fail(
        "missing wgmma_fence: wgmma%s uses an operand's registers that were written since the "
        "last one",
        at(p.where).c_str());
  known->second = std::move(now);
}

void issue(std::span<Thread* const> threads, std::span<void* const> arguments) {
  const Argument& first = of(arguments[0]);
  const GroupProduct& p = *first.product;
  for (const void* argument : arguments) {
    const GroupProduct& other = *of(argument).product;
    if (other.a != p.a || other.b != p.b || (other.accumulate != 0) != (p.accumulate != 0))
      fail("divergent wgmma%s: descriptors differ within the warpgroup", at(first.where).c_str());
  }
  if (!p.rows) check_descriptor(p.a, first.where);
  check_descriptor(p.b, first.where);
  Warpgroup& group = warpgroup_of(threads);
  Registers rows;
  std::transform(arguments.begin(), arguments.end(), rows.begin(),
                 [](const void* argument) { return of(argument).product->rows; });
  Product product{&sums_of(group, arguments),
                  rows,
                  p.a,
                  p.b,
                  p.a_major,
                  p.b_major,
                  p.accumulate,
                  first.code,
                  first.where,
                  {}};
  product.operands = read_operands(threads, product);
  if (p.rows) require_fenced_rows(group, product);
  group.open.push_back(std::move(product));
}

void multiply(const Product& p) {
  const int columns = p.sums->columns;
  std::vector<float> operands(p.operands.size());
  std::transform(p.operands.begin(), p.operands.end(), operands.begin(), bf16_value);
  const float *a = operands.data(), *b = a + kRows * kDepth;
  for (int row = 0; row < kRows; ++row)
    for (int column = 0; column < columns; ++column) {
      float& value = p.sums->values[static_cast<size_t>(row * columns + column)];
      float sum = p.accumulate ? value : 0.0f;
      for (int k = 0; k < kDepth; ++k) sum += a[row * kDepth + k] * b[column * kDepth + k];
      value = sum;
    }
}

void finish(std::span<Thread* const> threads, const Product& p) {
  if (read_operands(threads, p) != p.operands)
    report(nullptr, 0, "overwritten: an operand in %s changed while the wgmma%s was under way",
           p.rows[0] ? "shared memory or registers" : "shared memory", at(p.where).c_str());
  multiply(p);
  if (--p.sums->products > 0) return;
  require_untouched(*p.sums, " before it was waited for", p.where);
  for_each_sum(*p.sums, [&](float& value, size_t place) { value = p.sums->values[place]; });
  p.sums->is_fenced = false;
}

const Collective kFence{"wgmma_fence", [](auto threads, auto) {
                          Warpgroup& group = warpgroup_of(threads);
                          ++group.fences;
                          for (const auto& sums : group.sums) sums->is_fenced = true;
                        }};
const Collective kIssue{"wgmma", issue};
const Collective kCommit{"wgmma_commit", [](auto threads, auto) {
                           Warpgroup& group = warpgroup_of(threads);
                           group.groups.push_back(std::move(group.open));
                           group.open.clear();
                         }};
const Collective kWait{"wgmma_wait", [](auto threads, auto arguments) {
                         Warpgroup& group = warpgroup_of(threads);
                         const auto pending = static_cast<size_t>(of(arguments[0]).pending);
                         while (group.groups.size() > pending) {
                           for (const Product& product : group.groups.front())
                             finish(threads, product);
                           group.groups.pop_front();
                         }
                         // A warp's lanes go on together, the warps of the group need not.
                         if (observing)
                           for (size_t warp = 0; warp < 4; ++warp)
                             synchronize(threads.subspan(warp * kWarpThreads, kWarpThreads));
                       }};

}  // namespace

void group_product(const GroupProduct& product, Where where) {
  Argument argument{&product, 0, return_address(__builtin_return_address(0)), where};
  warpgroup_collective(kIssue, &argument, where);
}
void group_product_wait(int pending, Where where) {
  Argument argument{nullptr, pending, 0, where};
  warpgroup_collective(kWait, &argument, where);
}

}  // namespace simt

namespace moat::kernels::ptx {

void wgmma_fence(simt::Where where) {
  simt::Argument argument{nullptr, 0, 0, where};
  simt::warpgroup_collective(simt::kFence, &argument, where);
}
void wgmma_commit(simt::Where where) {
  simt::Argument argument{nullptr, 0, 0, where};
  simt::warpgroup_collective(simt::kCommit, &argument, where);
}

}  // namespace moat::kernels::ptx
