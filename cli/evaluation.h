#pragma once

#include <filesystem>

#include "cli/session.h"
#include "train/evaluation_report.h"

namespace moat::cli {

// "97.5 %  [95.3, 98.7]": a share with its Wilson interval.
std::string accuracy_text(int64_t part, int64_t whole);

// The ball that the configuration evaluates in: that of the training unless eval.eps says another.
attacks::ThreatModel evaluation_threat(const train::Config& config);

// Which split chose the checkpoint, as it says itself; "unknown" where it does not.
std::string selected_on(const Subject& subject);

// "unfinished: 25 of 40 epochs, runs/mine" and a new line, of a run that is not over.
std::string unfinished_line(const Subject& subject);

// Runs a protocol with a progress bar; `label` says on what. Its state is kept in the file, so that
// the same command goes on after a kill or Ctrl-C; the caller removes it.
train::Evaluation evaluate_watched(models::Classifier& model, const data::ImageSet& set,
                                   const attacks::Protocol& protocol, int batch,
                                   const std::filesystem::path& state, const std::string& label,
                                   const Globals& globals);

// The same with its files written into the folder, which is made and locked first; throws where it
// holds a finished evaluation, and says that `choice` ("--out FOLDER") takes another.
struct FinishedEvaluation {
  nlohmann::ordered_json report;
  std::string headline;  // for people
};
FinishedEvaluation evaluate_into(const char* choice, const std::filesystem::path& folder,
                                 const train::EvaluationSubject& subject,
                                 const attacks::Protocol& protocol, const Globals& globals);

// The same by the protocol, in the ball and on the images that the configuration names.
FinishedEvaluation evaluate_into(const std::filesystem::path& folder, Subject& subject,
                                 const train::Config& config, const Globals& globals);

// Throws where the finished evaluation in the folder is not the one that this would make: of
// another protocol, ball, checkpoint, or other images.
void require_evaluation_of(const std::filesystem::path& folder, const Subject& subject,
                           const train::Config& config);

}  // namespace moat::cli
