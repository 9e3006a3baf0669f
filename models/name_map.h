#pragma once

#include <optional>
#include <string>
#include <vector>

#include "models/checkpoint.h"

namespace moat::models {

// Files of other projects: what they call the tensors of the families here, and how they lay them
// out. One table of rules (name_map.cpp) serves both directions.

struct Project {
  std::string name, about;
  std::vector<Family> families;
  std::optional<engine::ExpertActivation> activation = {};  // of its transformers; none: as ours
  std::optional<Experts> mixtures = {};                     // these alone; none: no mixtures
  bool routes_tokens = false;                               // has mixtures for tokens as well
};
const std::vector<Project>& projects();
const Project& find_project(const std::string& name);  // throws UsageError with the known names

// Whether the project has a net like this one, computing the same: of the mixtures its own alone,
// and of other projects than moat no sparse nets and no option-A shortcuts.
bool can_export(const ClassifierSettings& s, const Project& project);
// The net's tensors by a project's names and layouts, ready for its load_state_dict(). What it has
// no name for stays out of the tensors: the normaliser is in the metadata. Throws where it
// cannot be exported.
engine::SafeTensors export_as(Classifier& model, const Project& project);

struct Imported {
  Classifier model;
  std::string project;              // whose names the file has
  std::vector<std::string> unused;  // tensors that are no part of the net, counters aside
};
// The model that `settings` describe with a file's tensors; floating types become float32.
// `project`: a name, or "auto": the one whose names fit best. Classes and channels follow the file.
// The normaliser is the file's or, where it has none, that of the settings. Throws one line naming
// `origin`, what is missing, the nearest names and what is left over; or the first wrong shape.
Imported import_model(const engine::SafeTensors& file, const ClassifierSettings& settings,
                      const std::string& project, const std::string& origin);

}  // namespace moat::models
