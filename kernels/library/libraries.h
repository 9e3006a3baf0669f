#pragma once

#include <string>

namespace moat::kernels {

const char* onednn_version();  // "2.6.3"
const char* onednn_isa();      // the instructions oneDNN will use: "AVX2", "AVX512_CORE_BF16", …

// Of builds with CUDA alone.
std::string cublaslt_version();  // "13.1.0"
std::string cudnn_version();     // "9.14.0"

}  // namespace moat::kernels
