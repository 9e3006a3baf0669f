#pragma once

namespace moat::kernels {

const char* onednn_version();  // "2.6.3"
const char* onednn_isa();      // the instructions oneDNN will use: "AVX2", "AVX512_CORE_BF16", …

}  // namespace moat::kernels
