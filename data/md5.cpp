#include "data/md5.h"

#include <openssl/evp.h>

#include <array>
#include <memory>

#include "engine/error.h"
#include "engine/io/mapped_file.h"

namespace moat::data {

std::string md5_of(const std::filesystem::path& file) {
  const engine::MappedFile mapped(file);
  std::array<unsigned char, EVP_MAX_MD_SIZE> digest;
  unsigned length = 0;
  engine::require(EVP_Digest(mapped.bytes().data(), mapped.bytes().size(), digest.data(), &length,
                             EVP_md5(), nullptr) == 1,
                  "MD5 must be available in OpenSSL, this machine's settings forbid it");
  std::string out;
  for (unsigned i = 0; i < length; ++i) {
    out += "0123456789abcdef"[digest[i] >> 4];
    out += "0123456789abcdef"[digest[i] & 15];
  }
  return out;
}

}  // namespace moat::data
