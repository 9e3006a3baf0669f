#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>

struct evp_md_ctx_st;

namespace moat::engine {

// SHA-256 (FIPS 180-4) of a stream of bytes: update() any number of times, then hex() once.
class Sha256 {
 public:
  Sha256();
  void update(std::span<const uint8_t> bytes);
  std::string hex();  // 64 lower-case digits; ends the stream

 private:
  struct Free {
    void operator()(evp_md_ctx_st* state) const;
  };
  std::unique_ptr<evp_md_ctx_st, Free> state_;
};

std::string sha256(std::span<const uint8_t> bytes);

}  // namespace moat::engine
