#include "attacks/square.h"

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>
#include <numeric>

#include "attacks/random_points.h"
#include "attacks/square_bump.h"
#include "engine/ops/elementwise.h"
#include "engine/ops/shape.h"
#include "engine/ops/square_attack.h"

namespace moat::attacks {

using namespace engine;

namespace {

constexpr int kHalvedAfter[] = {10, 50, 200, 500, 1000, 2000, 4000, 6000, 8000};

// Stripes: in each column and channel one side of ball ∩ box.
Tensor linf_start(const Victims& v, const ThreatModel& threat, const RandomKey& key) {
  const Tensor& x = v.images;
  const Tensor signs = random_signs({x.dim(0), 1, x.dim(2), x.dim(3)}, v.ids, key);
  return ball_project(add(x, scale(signs, 2 * threat.eps)), x, threat.norm, threat.eps);
}

// A grid of bumps, five of them along the shorter side, each with its own direction and in each
// channel its own sign; eps long.
Tensor l2_start(const Victims& v, const ThreatModel& threat, const RandomKey& key) {
  const int64_t n = v.size(), height = v.images.dim(1), width = v.images.dim(2),
                channels = v.images.dim(3),
                side = std::max<int64_t>(std::min(height, width) / 5, 1), rows = height / side,
                columns = width / side, top = (height - rows * side) / 2,
                left = (width - columns * side) / 2;
  const std::vector<double> bump = square_bump(static_cast<int>(side));
  const std::vector<int32_t> ids = v.ids.to_vector<int32_t>();
  std::vector<float> moved(static_cast<size_t>(v.images.size()));
  for (int64_t i = 0; i < n; ++i) {
    const auto draw = [&](int64_t element) {
      return random_bits(key, static_cast<uint32_t>(ids[static_cast<size_t>(i)]),
                         static_cast<uint32_t>(element)) >>
                 31 !=
             0;
    };
    for (int64_t tile = 0; tile < rows * columns; ++tile) {
      const bool transposed = draw(tile * (channels + 1));
      for (int64_t k = 0; k < channels; ++k) {
        const double sign = draw(tile * (channels + 1) + 1 + k) ? 1 : -1;
        for (int64_t u = 0; u < side; ++u)
          for (int64_t w = 0; w < side; ++w) {
            const int64_t row = top + tile / columns * side + u,
                          column = left + tile % columns * side + w;
            moved[static_cast<size_t>(((i * height + row) * width + column) * channels + k)] =
                static_cast<float>(
                    sign * bump[static_cast<size_t>(transposed ? w * side + u : u * side + w)]);
          }
      }
    }
  }
  // Every bump has norm 1 in every channel.
  const double length = std::sqrt(static_cast<double>(rows * columns * channels));
  const Tensor delta = Tensor::from(moved, v.images.shape(), v.images.device());
  return ball_project(add(v.images, scale(delta, threat.eps / length)), v.images, threat.norm,
                      threat.eps);
}

// What is looked at, query by query; holds what does not change.
class Candidates {
 public:
  Candidates(const Victims& all, const ThreatModel& threat) : images_(all.images), threat_(threat) {
    if (threat.norm == Norm::l2) return;
    const auto end = [&](double far) {
      return ball_project(affine(images_, 1, far), images_, threat.norm, threat.eps);
    };
    low_ = end(-2 * threat.eps - 1);
    high_ = end(2 * threat.eps + 1);
  }

  Tensor start(const Victims& v, const RandomKey& key) const {
    return threat_.norm == Norm::linf ? linf_start(v, threat_, key) : l2_start(v, threat_, key);
  }

  Tensor operator()(const Survivors& survivors, const Tensor& best, int side,
                    const RandomKey& key) {
    const Tensor &rows = survivors.rows(), &ids = survivors.victims().ids;
    if (threat_.norm == Norm::linf) return square_linf(best, low_, high_, rows, ids, side, key);
    if (!bump_.defined() || bump_.dim(0) != side) {
      std::vector<float> bump;
      for (double value : square_bump(side)) bump.push_back(static_cast<float>(value));
      bump_ = Tensor::from(bump, {side, side}, images_.device());
    }
    return ball_project(square_l2(best, images_, bump_, rows, ids, threat_.eps, key),
                        survivors.victims().images, threat_.norm, threat_.eps);
  }

 private:
  Tensor images_;
  ThreatModel threat_;
  Tensor low_, high_;  // L∞: the ends of ball ∩ box
  Tensor bump_;        // L2: of the present side
};

// Takes what a restart found where it fooled an image or came further.
void merge(const WorstPoints& into, const WorstPoints& found) {
  const auto before = into.fooled_at.to_vector<int32_t>(),
             after = found.fooled_at.to_vector<int32_t>();
  const auto loss = into.best_loss.to_vector<float>(),
             found_loss = found.best_loss.to_vector<float>();
  std::vector<int32_t> from(before.size());
  std::iota(from.begin(), from.end(), 0);
  for (size_t i = 0; i < from.size(); ++i)
    if (before[i] < 0 && (after[i] >= 0 || found_loss[i] > loss[i]))
      from[i] += static_cast<int32_t>(from.size());
  const Tensor index = index_of(from, into.points.device());
  const auto take = [&](const Tensor& to, const Tensor& other) {
    to.copy_from(gather_rows(concat({to, other}, 0), index));
  };
  take(into.points, found.points);
  take(into.best_loss, found.best_loss);
  into.fooled_at.copy_from(found.fooled_at);
}

}  // namespace

double square_share(double share, int number) {
  for (int last : kHalvedAfter)
    if (number > last) share /= 2;
  return share;
}

int square_side(Norm norm, double share, int height, int width) {
  const double pixels = static_cast<double>(height) * width;
  int side = std::max(static_cast<int>(std::lround(std::sqrt(share * pixels))), 1);
  if (norm == Norm::l2) {
    side = std::max(side, 3);
    side += side % 2 == 0;
  }
  return std::min({side, height, width});
}

int64_t most_passes(const Square& a, int) { return int64_t{a.restarts} * (a.queries + 1); }

nlohmann::ordered_json constants_of(const Square& a) {
  return {{"queries", a.queries},
          {"share", a.share},
          {"share halved after", kHalvedAfter},
          {"restarts", a.restarts},
          {"loss", name_of(Loss::margin)},
          {"start", a.threat.norm == Norm::linf ? "stripes" : "grid of bumps"},
          {"draws", "per image"},
          {"keep", "first misclassified point, else largest margin"},
          {"seed", a.seed}};
}

AttackResult square_attack(const Model& model, const Victims& victims, const Square& a) {
  require(a.queries >= 0 && a.restarts >= 1 && a.threat.eps >= 0 && a.share > 0 && a.share <= 1,
          "square: queries must be >= 0, restarts >= 1, eps >= 0 and share in (0, 1]");
  require(victims.images.rank() == 4 && victims.images.dim(1) > 0 && victims.images.dim(2) > 0,
          [&] {
            return text("square: images must be [n, height, width, channels] with pixels, got ",
                        victims.images.shape().str());
          });
  const int height = to_int(victims.images.dim(1)), width = to_int(victims.images.dim(2));
  const Objective objective{.loss = Loss::margin};
  AttackResult result;
  const WorstPoints worst = worst_points(victims.images);
  Candidates candidates(victims, a.threat);
  for (int restart = 0; restart < a.restarts; ++restart) {
    // Each restart searches on its own.
    const WorstPoints best = worst_points(victims.images);
    best.fooled_at.copy_from(worst.fooled_at);
    Survivors survivors(victims, best);
    RandomKey key{
        .seed = a.seed, .purpose = Purpose::attack_start, .stream = static_cast<uint32_t>(restart)};
    for (int query = -1; query < a.queries && survivors.size() > 0; ++query) {
      Tensor x;
      if (query < 0) {
        x = candidates.start(survivors.victims(), key);
      } else {
        key.purpose = Purpose::attack_query;
        key.iteration = static_cast<uint32_t>(query);
        const double share = square_share(a.share, query);
        x = candidates(survivors, best.points, square_side(a.threat.norm, share, height, width),
                       key);
      }
      const Probe p = without_gradient(model, x, survivors.victims(), objective);
      result.forwards += survivors.size();
      survivors.look(x, p, restart * (a.queries + 1) + query + 1, {});
    }
    merge(worst, best);
  }
  result.adversarial = worst.points;
  result.fooled_at = worst.fooled_at.to_vector<int32_t>();
  return result;
}

}  // namespace moat::attacks
