#pragma once

#include "kernels/target.h"

namespace moat::kernels {

// Workspaces are cut into pieces of whole cache lines.
constexpr size_t in_lines(size_t bytes) { return (bytes + 63) / 64 * 64; }

class WorkspacePieces {
 public:
  explicit WorkspacePieces(Cpu on) : next_(static_cast<char*>(on.workspace)) {}
  char* take(size_t bytes) {
    char* piece = next_;
    next_ += in_lines(bytes);
    return piece;
  }

 private:
  char* next_;
};

}  // namespace moat::kernels
