#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "train/config.h"

namespace moat::train {

// Runs that are compared with each other, each for several seeds, and how they are measured.

struct StudyRow {
  std::string name;  // of its runs' folders
  std::string about;
  std::string preset;
  std::vector<std::string> settings;  // section.key=value, laid over the preset
  std::string start;  // row whose run of the same seed it starts with; empty: its own draw
};

enum class Parts { not_measured, measured };  // what router and experts withstand by themselves

struct Study {
  std::string name, about;
  std::vector<StudyRow> rows;          // a start before the rows that start with it
  std::vector<std::string> protocols;  // moe-aa@1 becomes aa-standard@1 for a dense net
  Parts parts;
};

// The pilot study of AdvMoE (router and experts trained robustly one by one), the gradients
// through the gate in AT(MoE), the methods beside each other on the digits, and AT, TRADES, both of
// a mixture, and AdvMoE on CIFAR-10 in three sizes.
const std::vector<Study>& studies();
const Study& find_study(const std::string& name);  // throws UsageError that names the nearest one

// Throws UsageError for a setting that the study chooses itself: what tells its rows apart, seeds,
// folders and protocols.
void require_free(const Study& study, const std::vector<std::string>& settings);

// The run folder of a row and a seed.
std::filesystem::path folder_of(const std::string& row, uint64_t seed,
                                const std::filesystem::path& study_folder);

// The configuration of that run, `settings` laid over the row's own. Throws UsageError as
// validate() does.
Config config_of(const StudyRow& row, uint64_t seed, const std::filesystem::path& study_folder,
                 const std::vector<std::string>& settings);

}  // namespace moat::train
