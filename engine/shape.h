#pragma once

#include <array>
#include <cstdint>
#include <initializer_list>
#include <string>

namespace moat::engine {

// Extents (or strides) of up to six axes; a value without heap memory.
class Shape {
 public:
  static constexpr int kMaxRank = 6;

  Shape() = default;
  Shape(std::initializer_list<int64_t> extents);
  static Shape of_rank(int rank, int64_t extent);

  int rank() const { return rank_; }
  bool empty() const { return rank_ == 0; }
  int64_t& operator[](int axis) { return extents_[static_cast<size_t>(axis)]; }
  int64_t operator[](int axis) const { return extents_[static_cast<size_t>(axis)]; }
  const int64_t* begin() const { return extents_.data(); }
  const int64_t* end() const { return extents_.data() + rank_; }
  int64_t back() const { return (*this)[rank_ - 1]; }
  void push_back(int64_t extent);

  int64_t count() const;             // product of the extents; 1 for rank 0
  Shape contiguous_strides() const;  // row-major, in elements
  std::string str() const;           // "[2, 3]"
  // All six axes of a kernel: `front` for those this has not, then its own.
  std::array<int64_t, kMaxRank> padded(int64_t front) const;

  friend bool operator==(const Shape& a, const Shape& b);

 private:
  std::array<int64_t, kMaxRank> extents_{};
  int rank_ = 0;
};

// NumPy broadcasting of two shapes; throws when they do not fit.
Shape broadcast(const Shape& a, const Shape& b);

}  // namespace moat::engine
