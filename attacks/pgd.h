#pragma once

#include <nlohmann/json_fwd.hpp>

#include "attacks/objective.h"
#include "attacks/survivors.h"
#include "attacks/threat_model.h"

namespace moat::attacks {

enum class Start {
  center,    // the image itself
  uniform,   // uniform in ball ∩ [0,1]^d (L∞); uniform in the ball, then clipped (L2)
  gaussian,  // image + 0.001 N(0, 1), clipped (TRADES)
  given,     // Victims::start, projected on ball and box; restarts differ in nothing
};
const char* name_of(Start start);

// Which point comes back.
enum class Keep {
  last,   // the last iterate, as training uses it, and attacks whose paper judges that alone
  worst,  // the first misclassified iterate, else the one of highest loss; the start counts too
};
const char* name_of(Keep keep);

// Projected gradient descent (Madry et al. 2018). FGSM is one step from the center, BIM many, and
// with momentum MIM (Dong et al. 2018).
struct Pgd {
  ThreatModel threat;
  int steps = 10;
  double step = 2.0 / 255;
  int restarts = 1;
  Start start = Start::uniform;
  Objective objective = {};
  Keep keep = Keep::worst;
  double momentum = 0;
  uint64_t seed = 0;
  uint32_t iteration = 0;  // of training: makes the draws of one epoch differ from another's
  uint32_t stream = 0;     // of the first restart's draws; each further one has the next
};

Pgd fgsm(const ThreatModel& threat);
// The attack of Puigcerver et al. 2022 on V-MoE, as released: steps of eps / steps from the image,
// so that no ball binds, and the last iterate is judged; `auxiliary` 1 adds the losses of the
// gates. The release leaves the box, climbs the mean over the batch, and its auxiliary losses are
// those of the batch.
Pgd sign_steps(const ThreatModel& threat, double auxiliary, int steps = 40);

// Only the input gradient is computed. With Keep::worst fooled images leave the batch; what happens
// to an image depends on the image, its id and the seed alone.
AttackResult pgd(const Model& model, const Victims& victims, const Pgd& settings);

// Forward and backward, for an image that withstands it at a model with so many routes; an
// estimate.
int64_t most_passes(const Pgd& settings, int routes);

// As a report prints them.
nlohmann::ordered_json constants_of(const Pgd& settings);

}  // namespace moat::attacks
