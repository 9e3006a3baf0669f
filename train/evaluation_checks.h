#pragma once

#include <vector>

#include "attacks/checks/checks.h"
#include "train/evaluation_report.h"
#include "train/verification.h"

namespace moat::train {

// Is the evaluation to be believed? attacks::run_checks on the first `subject.checks` images (none
// for 0, or for an eps of 0), and what the evaluation itself shows: that the model is untouched
// (G5), that stored images get the verdict that was counted (G6), that they lie in the ball (G7b)
// and survive rounding to bytes (G8), that the protocol aims at classes and at none (G22), which
// split chose the checkpoint (G29), whether experts are out of use (M11), and what the stages of
// moe-aa@1 found that AutoAttack did not (M4 … M8). `progress` is told of the former and may throw
// to end them.
std::vector<attacks::Check> evaluation_checks(const Evaluation& evaluation,
                                              const EvaluationSubject& subject,
                                              const Verification& verified,
                                              const attacks::ChecksProgress& progress = {});

// [{id, status, value, threshold, explain, next_action, curve: [[x, y], …]}], as a report has them.
nlohmann::ordered_json checks_json(const std::vector<attacks::Check>& checks);

}  // namespace moat::train
