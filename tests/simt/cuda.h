#pragma once

// What kernels/cuda.cuh includes where there is no nvcc: CUDA's own names, for g++, over the
// interpreter of this folder (README.md). It needs no CUDA toolkit.

#include "tests/simt/device/atomics.h"
#include "tests/simt/device/host.h"
#include "tests/simt/device/intrinsics.h"
#include "tests/simt/device/language.h"
#include "tests/simt/device/mathematics.h"
#include "tests/simt/device/vectors.h"
#include "tests/simt/device/warp.h"
