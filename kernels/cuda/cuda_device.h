#pragma once

namespace moat::kernels {

// The device that launches go to, -1 where no GPU is usable.
int current_cuda_device();

}  // namespace moat::kernels
