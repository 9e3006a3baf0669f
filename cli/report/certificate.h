#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "cli/report/json_view.h"
#include "cli/table.h"

namespace moat::cli::report {

// What `moat certify` proved of a model.
struct Certificate {
  std::filesystem::path file;  // certificate.json, for errors
  Json document;               // as in the file
  std::vector<double> radii;   // of the images that are right, in pixels of [0, 1]
};

// Nothing where the folder has no certificate.json.
std::optional<Certificate> read_certificate(const std::filesystem::path& folder);

// Accuracies by eps; what each proof says of the model; its Lipschitz constants.
Table certified_table(const Certificate& certificate);
Table proofs_table(const Certificate& certificate);
Table constants_table(const Certificate& certificate);

// Notes on the first and on the last of these.
std::string radii_note(const Certificate& certificate);
std::string constants_note(const Certificate& certificate);

// Accuracy over log10 of eps: proven at any eps, attacked at those of the table. Empty where no eps
// is above the smallest radius that is searched for.
std::string certified_chart(const Certificate& certificate);

}  // namespace moat::cli::report
