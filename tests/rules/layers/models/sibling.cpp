#include "attacks/attack.h"
