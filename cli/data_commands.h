#pragma once

#include "cli/commands.h"
#include "data/image_files.h"

namespace moat::cli {

// moat data convert, moat data download.
void add_data_convert(CLI::App& data, Globals& globals);
void add_data_download(CLI::App& data, Globals& globals);

// --resize and --resize-by.
void add_resizing(CLI::App& command, data::Resizing& resize);

}  // namespace moat::cli
