#include <engine/tensor.h>

#include "tensor.h"
