#include "engine/io/sha256.h"

#include <openssl/evp.h>

#include <array>

#include "engine/error.h"

namespace moat::engine {

namespace {
void must(int succeeded) {
  require(succeeded == 1,
          "SHA-256 must be available in OpenSSL, this machine's settings forbid it");
}
}  // namespace

void Sha256::Free::operator()(evp_md_ctx_st* state) const { EVP_MD_CTX_free(state); }

Sha256::Sha256() : state_(EVP_MD_CTX_new()) {
  must(EVP_DigestInit_ex(state_.get(), EVP_sha256(), nullptr));
}

void Sha256::update(std::span<const uint8_t> bytes) {
  must(EVP_DigestUpdate(state_.get(), bytes.data(), bytes.size()));
}

std::string Sha256::hex() {
  std::array<unsigned char, 32> digest;
  must(EVP_DigestFinal_ex(state_.get(), digest.data(), nullptr));
  std::string out;
  for (unsigned char byte : digest) {
    out += "0123456789abcdef"[byte >> 4];
    out += "0123456789abcdef"[byte & 15];
  }
  return out;
}

std::string sha256(std::span<const uint8_t> bytes) {
  Sha256 hash;
  hash.update(bytes);
  return hash.hex();
}

}  // namespace moat::engine
