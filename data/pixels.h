#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <utility>
#include <vector>

namespace moat::data {

// Bytes that nobody changes, so that copies share them: in memory, or in a file that is mapped.
class Pixels {
 public:
  Pixels() = default;
  Pixels(std::vector<uint8_t> bytes) {
    auto owner = std::make_shared<const std::vector<uint8_t>>(std::move(bytes));
    bytes_ = *owner;
    owner_ = std::move(owner);
  }
  // Bytes that live as long as `owner`.
  Pixels(std::shared_ptr<const void> owner, std::span<const uint8_t> bytes)
      : owner_(std::move(owner)), bytes_(bytes) {}

  const uint8_t* data() const { return bytes_.data(); }
  size_t size() const { return bytes_.size(); }
  const uint8_t* begin() const { return data(); }
  const uint8_t* end() const { return data() + size(); }
  uint8_t operator[](size_t i) const { return bytes_[i]; }

  Pixels first(size_t count) const { return {owner_, bytes_.first(count)}; }

  friend bool operator==(const Pixels& a, const Pixels& b) { return std::ranges::equal(a, b); }

 private:
  std::shared_ptr<const void> owner_;
  std::span<const uint8_t> bytes_;
};

}  // namespace moat::data
