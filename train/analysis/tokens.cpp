#include "train/analysis/tokens.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "engine/ops/elementwise.h"
#include "engine/ops/reduce.h"
#include "engine/ops/shape.h"
#include "engine/tape.h"
#include "train/analysis/batches.h"
#include "train/objective.h"

namespace moat::train {

using namespace engine;
using models::ChooseTokens;
using models::TokenChoices;
using models::TokenExperts;
using models::TokenRanks;

namespace {

std::vector<double> numbers(const Tensor& t) { return t.to(Dtype::f64).to_vector<double>(); }

TokenChoices own(const TokenRanks& r) {
  const int64_t active = r.room.dim(2);
  return {slice(r.experts, 2, 0, active), mul(slice(r.weights, 2, 0, active), r.room)};
}

TokenChoices dropped(const TokenRanks& r) {
  const TokenChoices choices = own(r);
  return {choices.experts, scale(choices.weights, 0)};
}

TokenChoices next(const TokenRanks& r) {
  const int64_t active = r.room.dim(2), by = std::min(active, r.experts.dim(2) - active);
  return {slice(r.experts, 2, by, by + active), own(r).weights};
}

TokenChoices random(const TokenRanks& r, const std::vector<int32_t>& ids, uint64_t seed) {
  const auto tokens = static_cast<size_t>(r.room.dim(1)),
             active = static_cast<size_t>(r.room.dim(2)),
             experts = static_cast<size_t>(r.experts.dim(2));
  const RandomKey key{
      .seed = seed, .purpose = Purpose::attack_query, .stream = static_cast<uint32_t>(r.layer)};
  std::vector<int32_t> drawn, order(experts);
  for (int32_t id : ids)
    for (size_t t = 0; t < tokens; ++t) {
      std::iota(order.begin(), order.end(), 0);
      for (size_t k = 0; k < active; ++k) {
        const uint32_t bits =
            random_bits(key, static_cast<uint32_t>(id), static_cast<uint32_t>(t * active + k));
        std::swap(order[k], order[k + bits % (experts - k)]);
        drawn.push_back(order[k]);
      }
    }
  return {Tensor::from(drawn, r.room.shape(), r.room.device()), own(r).weights};
}

// What the gate said to a batch of images, and what that made of it.
struct Said {
  TokenChoices choices;
  Tensor room;
};

// The experts that others chose, by the weights that these images give them; 0 where the others had
// no room.
TokenChoices along(const TokenRanks& r, const Said& others) {
  const auto experts = static_cast<size_t>(r.experts.dim(2)),
             active = static_cast<size_t>(r.room.dim(2));
  const std::vector<int32_t> ranked = r.experts.to_vector<int32_t>(),
                             chosen = others.choices.experts.contiguous().to_vector<int32_t>();
  const std::vector<double> weights = numbers(r.weights), room = numbers(others.room);
  std::vector<double> out(chosen.size());
  for (size_t i = 0; i < chosen.size(); ++i) {
    const size_t row = i / active * experts;
    const auto first = ranked.begin() + static_cast<std::ptrdiff_t>(row);
    const auto rank = std::find(first, first + static_cast<std::ptrdiff_t>(experts), chosen[i]);
    out[i] = room[i] * weights[row + static_cast<size_t>(rank - first)];
  }
  return {others.choices.experts,
          Tensor::from(out, r.room.shape(), r.room.device()).to(r.weights.dtype())};
}

// The k-th choice replaced by the (k+1)-th for one token of each image: that of the first `count`
// whose last choice has room and is nearest to the next one.
TokenChoices nearest_switched(const TokenRanks& r, const Tensor& margins, int64_t count) {
  const auto tokens = static_cast<size_t>(r.room.dim(1)),
             active = static_cast<size_t>(r.room.dim(2)),
             experts = static_cast<size_t>(r.experts.dim(2));
  const std::vector<int32_t> ranked = r.experts.to_vector<int32_t>();
  const std::vector<double> margin = numbers(margins), room = numbers(r.room);
  std::vector<int32_t> chosen;
  for (size_t row = 0; row < margin.size(); ++row)
    for (size_t k = 0; k < active; ++k) chosen.push_back(ranked[row * experts + k]);
  for (size_t from = 0; from < margin.size(); from += tokens) {
    size_t nearest = from;
    bool found = false;
    for (size_t row = from; row < from + static_cast<size_t>(count); ++row) {
      if (room[(row + 1) * active - 1] == 0 || (found && margin[row] >= margin[nearest])) continue;
      nearest = row;
      found = true;
    }
    if (found) chosen[(nearest + 1) * active - 1] = ranked[nearest * experts + active];
  }
  return {Tensor::from(chosen, r.room.shape(), r.room.device()), own(r).weights};
}

struct Pass {
  models::Prediction prediction;
  std::vector<Said> said;  // per layer
};

// One batch, its images and their attacked ones.
class Replacements {
 public:
  Replacements(const models::Classifier& model, const attacks::Victims& v, const Tensor& attacked)
      : model_(model), images_{v.images, attacked}, labels_(v.labels.to_vector<int32_t>()) {
    for (size_t side : {0, 1})
      own_[side].prediction = model_.forward_choosing(images_[side], [&](const TokenRanks& r) {
        own_[side].said.push_back({own(r), r.room});
        return own_[side].said.back().choices;
      });
  }
  void count_own(Correct& to) const {
    to.clean += right(own_[0].prediction.logits);
    to.attacked += right(own_[1].prediction.logits);
  }
  int64_t tokens() const { return own_[0].said.front().room.dim(1); }
  // `replace` is told what the gate said to the other side's images as well; layer -1: all.
  void count(Correct& to, int layer,
             const std::function<TokenChoices(const TokenRanks&, const Said&)>& replace) const {
    for (size_t side : {0, 1}) {
      const Tensor logits = logits_of(side, layer, [&](const TokenRanks& r) {
        return replace(r, own_[1 - side].said[static_cast<size_t>(r.layer)]);
      });
      (side == 0 ? to.clean : to.attacked) += right(logits);
    }
  }
  // Of each clean image, ‖change of its logits‖.
  std::vector<double> jumps(int layer, int64_t tokens) const {
    const Tensor& margins = own_[0].prediction.tokens.margins[static_cast<size_t>(layer)];
    const std::vector<double> before = numbers(own_[0].prediction.logits),
                              after = numbers(logits_of(0, layer, [&](const TokenRanks&r) {
                                return nearest_switched(r, margins, tokens);
                              }));
    std::vector<double> squares(labels_.size());
    const size_t classes = before.size() / std::max<size_t>(1, squares.size());
    for (size_t i = 0; i < before.size(); ++i)
      squares[i / classes] += (after[i] - before[i]) * (after[i] - before[i]);
    for (double& s : squares) s = std::sqrt(s);
    return squares;
  }

 private:
  Tensor logits_of(size_t side, int layer, const ChooseTokens& replace) const {
    return model_
        .forward_choosing(images_[side],
                          [&](const TokenRanks& r) {
                            return layer < 0 || r.layer == layer ? replace(r) : own(r);
                          })
        .logits;
  }
  int64_t right(const Tensor& logits) const {
    const std::vector<int32_t> predicted = argmax(logits, 1).to_vector<int32_t>();
    int64_t count = 0;
    for (size_t i = 0; i < labels_.size(); ++i) count += predicted[i] == labels_[i];
    return count;
  }

  const models::Classifier& model_;
  Tensor images_[2];
  std::vector<int32_t> labels_;
  Pass own_[2];
};

}  // namespace

TokenTests test_tokens(const models::Classifier& model, const data::ImageSet& set,
                       const AnalysisSettings& on) {
  require(model.has_token_gates(),
          "choices of tokens are replaced one layer at a time: the model must route tokens");
  const NoTapeScope not_recorded;
  const TokenExperts& moe = model.settings().transformer.moe;
  const int layers = to_int(std::ssize(moe.blocks));
  const attacks::Model attacked = attack_model(model);
  TokenTests out;
  for (int l = 0; l < layers; ++l) out.layers.push_back({.name = text("gate ", l + 1)});
  if (layers > 1) out.layers.push_back({.name = "all"});
  each_batch(model, set, on.batch, [&](const attacks::Victims& v) {
    const std::vector<int32_t> ids = v.ids.to_vector<int32_t>();
    const Replacements batch(model, v, attacks::pgd(attacked, v, pgd_of(on)).adversarial);
    batch.count_own(out.as_it_is);
    for (size_t row = 0; row < out.layers.size(); ++row) {
      LayerTests& to = out.layers[row];
      const int layer = to.name == "all" ? -1 : static_cast<int>(row);
      using Ranks = const TokenRanks&;
      using Others = const Said&;
      batch.count(to.dropped, layer, [](Ranks r, Others) { return dropped(r); });
      batch.count(to.next, layer, [](Ranks r, Others) { return next(r); });
      batch.count(to.random, layer, [&](Ranks r, Others) { return random(r, ids, on.seed); });
      batch.count(to.choices, layer, [](Ranks r, Others others) { return along(r, others); });
      batch.count(to.routes, layer, [](Ranks, Others others) { return others.choices; });
      if (layer < 0 || moe.active == moe.experts) continue;
      const bool is_last = moe.blocks[row] == model.settings().blocks.front() - 1;
      const int64_t tokens = is_last ? 1 : batch.tokens();
      for (double jump : batch.jumps(layer, tokens))
        to.jump = to.jump.value_or(0) + jump / static_cast<double>(set.size());
    }
  });
  return out;
}

double chance_overlap(int experts, int active) {
  const auto choose = [](int n, int k) {
    double ways = k <= n ? 1 : 0;
    for (int i = 1; i <= k && ways > 0; ++i) ways *= static_cast<double>(n - k + i) / i;
    return ways;
  };
  double sum = 0;
  for (int both = 0; both <= active; ++both)
    sum += choose(active, both) * choose(experts - active, active - both) * both /
           (2.0 * active - both);
  return sum / choose(experts, active);
}

}  // namespace moat::train
