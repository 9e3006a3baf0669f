#pragma once

#include "cli/commands.h"

namespace moat::cli {

// moat data convert, moat data download.
void add_data_convert(CLI::App& data, Globals& globals);
void add_data_download(CLI::App& data, Globals& globals);

}  // namespace moat::cli
