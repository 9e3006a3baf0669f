#pragma once

#include <filesystem>

#include "cli/commands.h"
#include "train/evaluation_report.h"

namespace moat::cli {

// Runs a protocol with a progress bar, writes its files into the folder and prints the headline.
// What it has found so far is kept there, so that the same command goes on after a kill or Ctrl-C.
void evaluate_into(const std::filesystem::path& folder, const train::EvaluationSubject& subject,
                   const attacks::Protocol& protocol, const Globals& globals);

}  // namespace moat::cli
