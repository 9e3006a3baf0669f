#pragma once

#include <string>
#include <vector>

#include "attacks/attack.h"

namespace moat::attacks {

// The images an attack of a protocol is run on: all that are right clean, or those of them that no
// attack before it has fooled.
enum class Against { correct, survivors };
const char* name_of(Against against);

struct NamedAttack {
  std::string name;  // "pgd-50 through", without a comma: it is a cell of a table
  Attack attack;
  Against against = Against::correct;
  std::string check = {};  // that judges by how many images it fools first ("M4"); empty: none
};

// The attack as a model meets it: where its gradient passes gates, once through them and once
// blocked there, as "NAME through" and "NAME blocked".
std::vector<NamedAttack> at_both_gates(const std::string& name, Attack attack, Against against,
                                       const Model& model);

// A named, versioned set of attacks; an image counts as robust when it is classified correctly
// clean and resists every one of them. A name with its version never changes meaning.
struct Protocol {
  std::string name;  // "pgd-50@1"
  std::vector<NamedAttack> attacks;
};

// {"name", "attacks": [every constant of each]}, for a report.
nlohmann::ordered_json constants_of(const Protocol& protocol);

std::vector<std::string> protocol_names();

// pgd-k@1: k steps of eps/4, one restart, uniform start in ball ∩ box, summed cross-entropy,
// float32, worst over all iterates and the start. A routed model meets it twice, with the gradient
// through the gate and with the gate's gradient blocked; both count. fgsm@1: one step of eps from
// the image. sign-40@1: sign_steps, of a model with auxiliary losses also with these. Throws
// UsageError for an unknown name.
Protocol find_protocol(const std::string& name, const ThreatModel& threat, uint64_t seed,
                       const Model& model);

}  // namespace moat::attacks
