#include "engine/shape.h"

#include <algorithm>

#include "engine/error.h"

namespace moat::engine {

Shape::Shape(std::initializer_list<int64_t> extents) {
  for (int64_t extent : extents) push_back(extent);
}

Shape Shape::of_rank(int rank, int64_t extent) {
  Shape s;
  for (int i = 0; i < rank; ++i) s.push_back(extent);
  return s;
}

void Shape::push_back(int64_t extent) {
  require(rank_ < kMaxRank, "a shape has at most 6 axes");
  extents_[static_cast<size_t>(rank_++)] = extent;
}

int64_t Shape::count() const {
  int64_t n = 1;
  for (int64_t extent : *this) n *= extent;
  return n;
}

Shape Shape::contiguous_strides() const {
  Shape strides = of_rank(rank_, 1);
  for (int i = rank_ - 2; i >= 0; --i) strides[i] = strides[i + 1] * (*this)[i + 1];
  return strides;
}

std::string Shape::str() const {
  std::string s = "[";
  for (int i = 0; i < rank_; ++i) s += (i ? ", " : "") + std::to_string((*this)[i]);
  return s + "]";
}

std::array<int64_t, Shape::kMaxRank> Shape::padded(int64_t front) const {
  std::array<int64_t, kMaxRank> out;
  out.fill(front);
  std::copy(begin(), end(), out.end() - rank_);
  return out;
}

bool operator==(const Shape& a, const Shape& b) {
  return std::equal(a.begin(), a.end(), b.begin(), b.end());
}

Shape broadcast(const Shape& a, const Shape& b) {
  const int rank = std::max(a.rank(), b.rank());
  Shape out = Shape::of_rank(rank, 1);
  for (int i = 0; i < rank; ++i) {
    const int from_a = i - (rank - a.rank()), from_b = i - (rank - b.rank());
    const int64_t m = from_a < 0 ? 1 : a[from_a], n = from_b < 0 ? 1 : b[from_b];
    require(m == n || m == 1 || n == 1, [&] {
      return text("shapes must broadcast: axes must be equal or 1, got ", a.str(), " and ",
                  b.str());
    });
    out[i] = m == 1 ? n : m;
  }
  return out;
}

}  // namespace moat::engine
