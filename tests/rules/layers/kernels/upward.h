#include "engine/tensor.h"
