#pragma once

#include <filesystem>
#include <map>
#include <string>

#include "engine/tensor.h"

namespace moat::engine {

// The content of a safetensors file: 8 bytes little-endian header length, a JSON header with name
// -> {dtype, shape, data_offsets} and "__metadata__", then the raw tensors.
struct SafeTensors {
  std::map<std::string, Tensor> tensors;  // host tensors when read
  std::map<std::string, std::string> metadata;
};

// Reads F64, F32, BF16, I64, I32 and U8 tensors of up to six axes, and F16 ones as F32. The file
// may be hostile: whatever in it breaks the format (a length, type, shape or offset, overlaps,
// holes, duplicate names, broken JSON) throws one line with the file, what must hold and what was
// found.
SafeTensors read_safetensors(const std::filesystem::path& path);
// The same of a file in memory; `origin` names it in messages.
SafeTensors parse_safetensors(const std::string& bytes, const std::filesystem::path& origin);

// Writes atomically (engine/io/file.h); the same content gives the same bytes. Tensors lie in the
// order of falling element size, then of names, so that each is aligned to its element.
void write_safetensors(const std::filesystem::path& path, const SafeTensors& content);

}  // namespace moat::engine
