#pragma once

#include <filesystem>

#include "train/evaluation_report.h"

namespace moat::train {

// The lines that AutoAttack's log has, for programs that read them: "initial accuracy: 92.00%",
// "apgd-ce - 1/1 - 19 out of 46 successfully perturbed", "robust accuracy after APGD-CE: 54.00%
// (total time 10.3 s)", the largest perturbation and the final robust accuracy. The set is one
// batch. Numbers of an interval's width are in report.json, which this does not replace.
void write_autoattack_log(const std::filesystem::path& file, const Evaluation& evaluation,
                          const EvaluationSubject& subject);

// A model card in the fields of RobustBench's model_info, for a protocol that is AutoAttack's; what
// only a person knows (authors, venue, link) is left empty.
void write_robustbench_card(const std::filesystem::path& file, const Evaluation& evaluation,
                            const EvaluationSubject& subject);

}  // namespace moat::train
