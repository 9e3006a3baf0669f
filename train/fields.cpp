#include "attacks/protocol.h"
#include "data/catalog.h"
#include "models/zoo.h"
#include "train/field.h"

namespace moat::train {

namespace {

Rule between(double low, double high) { return {Rule::closed, low, high, {}}; }
Rule above(double low, double high) { return {Rule::open_low, low, high, {}}; }
Rule below(double low, double high) { return {Rule::open_high, low, high, {}}; }
Rule one_of(std::vector<std::string> choices) { return {Rule::choice, 0, 0, std::move(choices)}; }
const Rule kRadius{Rule::radius, 0, 0, {}};
const Rule kAny{};
constexpr double kMany = 1e9;

std::vector<std::string> model_names() {
  std::vector<std::string> names;
  for (const models::ZooRow& row : models::zoo()) names.push_back(row.settings.name);
  return names;
}

std::vector<std::string> data_names() {
  std::vector<std::string> names;
  for (const data::CatalogEntry& entry : data::catalog()) names.emplace_back(entry.name);
  return names;
}

// Where a member of a section lives.
template <auto section, auto member>
Slot in(Config& config) {
  return &((config.*section).*member);
}

std::vector<Field> model_fields() {
  using S = ModelSettings;
  constexpr auto kSection = &Config::model;
  return {
      {"model", "name", in<kSection, &S::name>, one_of(model_names()),
       "row of the zoo (moat models)"},
      {"model", "gate", in<kSection, &S::gate>, one_of({"zoo", "softmax", "straight-through"}),
       "gradient of the hard gate: of the softmax of the scores, or of the raw scores; zoo: as the "
       "row says"},
      {"model", "experts", in<kSection, &S::experts>, between(0, 64),
       "experts; 0: as the zoo says"},
      {"model", "ratio", in<kSection, &S::ratio>, between(0, 1),
       "width of the net, or of an expert, relative to the dense net; 0: as the zoo says"},
      {"model", "kept", in<kSection, &S::kept>, between(0.01, 1),
       "share of a dense net's filters that count, chosen by learned scores (a sparse net)"},
      {"model", "active", in<kSection, &S::active>, between(0, 64),
       "experts per image, weighted by the softmax of their scores; 1: hard; 0: as the zoo says"},
      {"model", "router_pool", in<kSection, &S::router_pool>, between(0, 64),
       "side of the squares of pixels that the router sees as one; 0: as the zoo says, or 1 below "
       "64 pixels, else what keeps it below a tenth of the path"},
      {"model", "score_norm", in<kSection, &S::score_norm>, one_of({"zoo", "true", "false"}),
       "batch norm without affine on the router's scores: keeps every expert in use; zoo: as the "
       "row says"},
      {"model", "router", in<kSection, &S::router>, one_of({"zoo", "trained", "fixed"}),
       "whether the router learns or keeps the numbers it starts with; zoo: as the row says"},
      {"model", "alpha", in<kSection, &S::alpha>, between(0, 1),
       "weight of the robust model in the dual one of train.method=jtdmoe"},
      {"model", "average", in<kSection, &S::average>, one_of({"logits", "probabilities"}),
       "what the dual model of train.method=jtdmoe averages"},
      {"model", "moe_blocks", in<kSection, &S::moe_blocks>, kAny,
       "blocks of a v-moe whose MLPs are mixtures: every-<n>, or last-<n> of every other block; "
       "empty: as the zoo says"},
      {"model", "capacity", in<kSection, &S::capacity>, between(0, 1000),
       "room of a v-moe's expert relative to an even share of the choices; 0: for all"},
      {"model", "group", in<kSection, &S::group>, between(0, 1e6),
       "images of a v-moe that share its experts' room and losses; 0: the batch"},
      {"model", "priority", in<kSection, &S::priority>, one_of({"order", "best-gate"}),
       "whose choices find room first in a v-moe (best-gate: Batch Prioritized Routing)"},
      {"model", "noise", in<kSection, &S::noise>, between(0, 1000),
       "deviation of the noise on a v-moe's gates in training, times the number of experts"},
      {"model", "importance", in<kSection, &S::importance>, between(0, 1000),
       "weight of a v-moe's importance loss"},
      {"model", "load", in<kSection, &S::load>, between(0, 1000), "weight of a v-moe's load loss"},
      {"model", "normalize", in<kSection, &S::normalize>, one_of({"none", "data"}),
       "mean and deviation inside the model: none, or of the training images"},
  };
}

std::vector<Field> data_fields() {
  using S = DataSettings;
  constexpr auto kSection = &Config::data;
  return {
      {"data", "name", in<kSection, &S::name>, one_of(data_names()),
       "data set (moat data info NAME)"},
      {"data", "path", in<kSection, &S::path>, kAny,
       "folder of its files, or the file of a converted set; empty for bundled sets"},
      {"data", "resize", in<kSection, &S::resize>, between(0, 4096),
       "side of the images of image files after resizing; 0: as stored"},
      {"data", "resize_by", in<kSection, &S::resize_by>,
       one_of({name_of(data::ResizeBy::both_sides), name_of(data::ResizeBy::shorter_side)}),
       "both sides are resized to it, or the shorter one, and the middle is kept"},
      {"data", "crop", in<kSection, &S::crop>, between(0, 4096),
       "side of what the model sees of an image: the middle, in training where data.augment says; "
       "0: everything"},
      {"data", "limit", in<kSection, &S::limit>, between(0, kMany),
       "use the first n training images; 0: all"},
      {"data", "augment", in<kSection, &S::augment>,
       one_of({"none", "crop-flip", "resized-crop-flip"}),
       "horizontal flip, and a crop from a random place of the padded image, or of a random area "
       "and shape, resized"},
      {"data", "crop_padding", in<kSection, &S::crop_padding>, between(0, 64),
       "pixels added on each side before crop-flip, as many as a translation may be"},
      {"data", "least_area", in<kSection, &S::least_area>, above(0, 1),
       "smallest part of an image that resized-crop-flip takes, as a share of its area"},
      {"data", "cutout", in<kSection, &S::cutout>, between(0, 4096),
       "side of a square that is erased from each training image, in pixels; 0: none"},
      {"data", "cutout_fill", in<kSection, &S::cutout_fill>, kAny,
       "what that square holds: a pixel value from 0 to 1, or mean (of the training images)"},
      {"data", "mixup", in<kSection, &S::mixup>, between(0, 1000),
       "training images are mixed in pairs, by shares of Beta(alpha, alpha) with this alpha; 0: "
       "no"},
      {"data", "cutmix", in<kSection, &S::cutmix>, between(0, 1000),
       "the same by pasting a rectangle; with both each image goes either way at random; 0: no"},
  };
}

std::vector<Field> train_fields() {
  using S = TrainSettings;
  constexpr auto kSection = &Config::train;
  return {
      {"train", "method", in<kSection, &S::method>,
       one_of({"natural", "at", "trades", "mart", "advmoe", "rt-er", "jtdmoe"}), "training method"},
      {"train", "form", in<kSection, &S::form>, one_of({"paper", "released"}),
       "advmoe: both levels minimise TRADES, or as released the router learns to tell the label "
       "modulo the number of experts"},
      {"train", "start", in<kSection, &S::start>, kAny,
       "run folder or checkpoint whose weights the run starts with; empty: drawn by run.seed"},
      {"train", "update", in<kSection, &S::update>, one_of({"all", "experts", "router"}),
       "the part of a mixture that is trained; the other one is frozen, batch norms included"},
      {"train", "epochs", in<kSection, &S::epochs>, between(1, 1e6),
       "passes over the training split"},
      {"train", "batch", in<kSection, &S::batch>, between(1, 65536), "images per step"},
      {"train", "eps", in<kSection, &S::eps>, kRadius, "radius of the training attack"},
      {"train", "step", in<kSection, &S::step>, kRadius,
       "step size of the training attack; 0: eps / 4"},
      {"train", "steps", in<kSection, &S::steps>, between(1, 1000), "steps of the training attack"},
      {"train", "norm", in<kSection, &S::norm>, one_of({"linf", "l2"}), "norm of the ball"},
      {"train", "gate", in<kSection, &S::gate>, one_of({"through", "blocked", "alternate"}),
       "the training attack's gradient goes through the gate, is blocked there, or in turns"},
      {"train", "attack_auxiliary", in<kSection, &S::attack_auxiliary>, between(0, 1e4),
       "weight of the auxiliary losses in the training attack on a v-moe; 0: out of it"},
      {"train", "batch_norm", in<kSection, &S::batch_norm>, one_of({"batch", "running"}),
       "statistics that the passes of a loss use; running ones are then never updated"},
      {"train", "beta", in<kSection, &S::beta>, between(0, 1e4),
       "weight of the KL term (trades, mart, advmoe, rt-er, jtdmoe)"},
      {"train", "router_weight", in<kSection, &S::router_weight>, between(0, 1e4),
       "weight of the router's cross-entropy (advmoe as released)"},
      {"train", "kl_experts", in<kSection, &S::kl_experts>, one_of({"second", "all"}),
       "whose KL term is added: each image's second expert, or every expert (rt-er, jtdmoe)"},
      {"train", "conditioned", in<kSection, &S::conditioned>, kAny,
       "jtdmoe: the standard model minimises the loss of the mixture with the robust one; false: "
       "its own"},
      {"train", "balance", in<kSection, &S::balance>, between(0, 1e4),
       "weight of the router's balance loss (MoE)"},
      {"train", "learning_rate", in<kSection, &S::learning_rate>, above(0, 100),
       "learning rate, which the schedule multiplies by up to 1"},
      {"train", "router_learning_rate", in<kSection, &S::router_learning_rate>, between(0, 100),
       "the router's; 0: as learning_rate"},
      {"train", "momentum", in<kSection, &S::momentum>, below(0, 1), "momentum of SGD"},
      {"train", "weight_decay", in<kSection, &S::weight_decay>, between(0, 1),
       "L2 penalty added to the gradient (sgd), or share of the weights times the rate (adamw)"},
      {"train", "decay", in<kSection, &S::decay>, one_of({"all", "kernels"}),
       "which weights decay: all, or those of products and convolutions alone"},
      {"train", "schedule", in<kSection, &S::schedule>,
       one_of({"cosine", "linear", "step", "constant", "cyclic"}), "course of the learning rate"},
      {"train", "warmup_epochs", in<kSection, &S::warmup_epochs>, between(0, 1e6),
       "epochs of linear warm-up"},
      {"train", "label_smoothing", in<kSection, &S::label_smoothing>, below(0, 1),
       "probability spread over all classes"},
      {"train", "clip_norm", in<kSection, &S::clip_norm>, between(0, kMany),
       "limit of the gradient norm per parameter group; 0: none"},
      {"train", "optimizer", in<kSection, &S::optimizer>, one_of({"sgd", "adamw"}), "optimizer"},
      {"train", "beta1", in<kSection, &S::beta1>, below(0, 1),
       "decay of the gradient's average (adamw)"},
      {"train", "beta2", in<kSection, &S::beta2>, below(0, 1),
       "decay of the squared gradient's average (adamw)"},
      {"train", "adam_eps", in<kSection, &S::adam_eps>, above(0, 1),
       "what is added to the root of that average (adamw)"},
      {"train", "cycle", in<kSection, &S::cycle>, between(1, kMany),
       "iterations of a cycle of the cyclic schedule: up to learning_rate, and down"},
      {"train", "cycle_base", in<kSection, &S::cycle_base>, between(0, 1),
       "where such a cycle begins and ends, as a share of learning_rate"},
      {"train", "ema", in<kSection, &S::ema>, below(0, 1),
       "decay of an average of weights and running statistics, which is validated and written as "
       "the model; 0: none"},
      {"train", "awp", in<kSection, &S::awp>, between(0, 1),
       "adversarial weight perturbation (at, trades, mart), relative to each tensor's norm; 0: "
       "none"},
      {"train", "awp_warmup", in<kSection, &S::awp_warmup>, between(0, 1e6),
       "epochs before that perturbation begins"},
      {"train", "patience", in<kSection, &S::patience>, between(0, 1e6),
       "epochs without a better validation after which the run ends; 0: it does not"},
      {"train", "rollbacks", in<kSection, &S::rollbacks>, between(0, 30),
       "times that a run which diverged goes on from its last epoch at half the learning rate; 0: "
       "it stops"},
  };
}

std::vector<Field> eval_fields() {
  using S = EvalSettings;
  constexpr auto kSection = &Config::eval;
  return {
      {"eval", "protocol", in<kSection, &S::protocol>, one_of(attacks::protocol_names()),
       "named evaluation"},
      {"eval", "eps", in<kSection, &S::eps>, kRadius, "radius; 0: as train.eps"},
      {"eval", "split", in<kSection, &S::split>, one_of({"train", "validation", "test"}),
       "images to evaluate on"},
      {"eval", "limit", in<kSection, &S::limit>, between(0, kMany), "first n images; 0: all"},
      {"eval", "batch", in<kSection, &S::batch>, between(1, 65536),
       "images at a time; results do not depend on it"},
      {"eval", "dir", in<kSection, &S::dir>, kAny,
       "folder of the report; empty: <run>/eval/<protocol>"},
      {"eval", "checks", in<kSection, &S::checks>, between(0, 1e6),
       "images that the checks of an evaluation look at; 0: none"},
      {"eval", "validation_steps", in<kSection, &S::validation_steps>, between(1, 1000),
       "PGD steps of the check on the validation split while training"},
      {"eval", "validation_every", in<kSection, &S::validation_every>, between(1, 1e6),
       "epochs between such checks"},
      {"eval", "validation_limit", in<kSection, &S::validation_limit>, between(0, kMany),
       "use the first n validation images; 0: all"},
  };
}

std::vector<Field> run_fields() {
  using S = RunSettings;
  constexpr auto kSection = &Config::run;
  return {
      {"run", "dir", in<kSection, &S::dir>, kAny, "run folder; empty: runs/<preset>-<n>"},
      {"run", "seed", in<kSection, &S::seed>, kAny, "every random number follows from it"},
      {"run", "device", in<kSection, &S::device>, kAny, "cpu, cuda, cuda:<i> or auto"},
      {"run", "precision", in<kSection, &S::precision>, one_of({"fp32", "tf32", "bf16"}),
       "number format of products and convolutions"},
      {"run", "threads", in<kSection, &S::threads>, between(0, 65536), "CPU threads; 0: all cores"},
      {"run", "checkpoint_every", in<kSection, &S::checkpoint_every>, between(0, 1e6),
       "epochs between kept epoch-N checkpoints; last and best are always kept"},
  };
}

std::vector<Field> all_fields() {
  std::vector<Field> all;
  for (auto* section : {model_fields, data_fields, train_fields, eval_fields, run_fields})
    for (Field& field : section()) all.push_back(std::move(field));
  return all;
}

}  // namespace

const std::vector<Field>& fields() {
  static const std::vector<Field> table = all_fields();
  return table;
}

}  // namespace moat::train
