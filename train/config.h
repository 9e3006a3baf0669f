#pragma once

#include <cstdint>
#include <filesystem>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <vector>

namespace moat::train {

// Every setting of a run, one struct. It is filled as defaults < preset < file < section.key=value,
// checked once, and written resolved into the run folder.

struct ModelSettings {
  std::string name = "digits-resnet";  // a row of the zoo (models/zoo.h)
  std::string gate = "zoo";  // zoo | softmax | straight-through: the gradient of the hard gate
  int experts = 0;           // 0: as the zoo row says
  double ratio = 0;     // width of the net, or an expert, relative to the dense net; 0: as the row
  double kept = 1;      // share of the filters kept by learned scores (a sparse dense net)
  int active = 0;       // experts per image; 0: as the row
  int router_pool = 0;  // side of the squares of pixels that the router sees as one; 0: as the row
  // zoo | true | false: batch norm without affine on the router's scores
  std::string score_norm = "zoo";
  std::string router = "zoo";  // zoo | trained | fixed: whether the router learns; zoo: as the row
  // Of the dual model that train.method=jtdmoe makes of two such models:
  double alpha = 0.7;              // weight of the robust one
  std::string average = "logits";  // logits | probabilities: what is averaged
  // Of nets with mixtures for tokens (V-MoE), beside experts and active:
  std::string moe_blocks;          // every-<n> | last-<n> of every other one; empty: as the row
  double capacity = 0;             // room of an expert relative to an even share; 0: for all
  int group = 0;                   // images that share room and losses; 0: the batch
  std::string priority = "order";  // whose choices find room first: order | best-gate
  double noise = 1;                // deviation of the training noise times the number of experts
  double importance = 0.005, load = 0.005;  // weights of the auxiliary losses
  std::string normalize = "none";  // none | data: the model's own normaliser, from the train split
};

struct DataSettings {
  std::string name = "digits";
  std::string path;  // root of the files, or a converted file; empty for bundled sets
  int resize = 0;    // image files: side after resizing, 0 = as stored
  std::string resize_by = "both-sides";  // both-sides | shorter-side, of which the middle is kept
  int crop = 0;                          // side of what the model sees, 0 = the whole image
  int64_t limit = 0;                     // first n training images, 0 = all
  // What happens to a training image; nothing of it to others.
  std::string augment = "none";  // none | crop-flip | resized-crop-flip
  int crop_padding = 4;
  double least_area = 0.08;       // of a resized crop, as a share of the image
  int cutout = 0;                 // side of an erased square, 0 = none
  std::string cutout_fill = "0";  // what it holds: mean (of the training images) | 0 to 1
  double mixup = 0;               // alpha of Beta(alpha, alpha), 0 = none; with both, an image is
  double cutmix = 0;              // mixed either way with probability 1/2
};

struct TrainSettings {
  std::string method = "at";   // natural | at | trades | mart | advmoe | rt-er | jtdmoe
  std::string form = "paper";  // paper | released: the objective of advmoe
  std::string start = {};      // run or checkpoint whose weights the run starts with; empty: drawn
  std::string update = "all";  // all | experts | router: which part of a mixture the steps change
  int epochs = 20;
  int batch = 128;
  double eps = 0.1;              // radius of the training attack, pixels in [0, 1]
  double step = 0;               // step size; 0: eps / 4
  int steps = 10;                // steps of the training attack
  std::string norm = "linf";     // linf | l2
  std::string gate = "blocked";  // gradient through the gate in the training attack:
                                 // through | blocked | alternate (from iteration to iteration)
  double attack_auxiliary = 0;   // weight of token gates' auxiliary losses in the training attack
  std::string batch_norm = "batch";   // batch | running: statistics of the passes of a loss
  double beta = 6;                    // weight of the KL term (TRADES, MART, AdvMoE, RT-ER, JTDMoE)
  double router_weight = 6;           // weight of the released AdvMoE router's cross-entropy
  std::string kl_experts = "second";  // second | all: whose KL term RT-ER and JTDMoE add
  bool conditioned = true;            // JTDMoE: the standard model's loss is the mixture's
  double balance = 0.1;               // weight of the router's balance loss (MoE)
  double learning_rate = 0.1;
  double router_learning_rate = 0;  // 0: as learning_rate
  double momentum = 0.9;
  double weight_decay = 5e-4;
  std::string decay = "all";        // all | kernels: which weights decay
  std::string schedule = "cosine";  // cosine | linear | step | constant | cyclic
  int warmup_epochs = 0;
  double label_smoothing = 0;
  double clip_norm = 0;           // gradient norm limit per parameter group, 0 = none
  std::string optimizer = "sgd";  // sgd | adamw
  double beta1 = 0.9, beta2 = 0.999, adam_eps = 1e-8;  // of AdamW
  int cycle = 1000;         // iterations of a cycle of the cyclic schedule
  double cycle_base = 0.5;  // its lowest rate, as a share of learning_rate
  double ema = 0;      // decay of the average of the weights that is validated and kept, 0 = none
  double awp = 0;      // adversarial weight perturbation relative to a tensor's norm, 0 = none
  int awp_warmup = 0;  // epochs without it
  int patience = 0;    // epochs without a better validation before the run ends, 0 = all epochs
  int rollbacks = 0;   // divergences that lead back to the last epoch at half the rate
};

struct EvalSettings {
  std::string protocol = "pgd-50@1";
  double eps = 0;              // 0: as train.eps
  std::string split = "test";  // train | validation | test
  int64_t limit = 0;           // first n images, 0 = all
  int batch = 256;
  std::string dir;               // where the report goes; empty: <run>/eval/<protocol>
  int checks = 100;              // images that checks of an evaluation look at; 0: none
  int validation_steps = 10;     // PGD steps of the per-epoch check on the validation split
  int validation_every = 1;      // epochs between such checks
  int64_t validation_limit = 0;  // first n images of that split, 0 = all
};

struct RunSettings {
  std::string dir;  // empty: runs/<preset>-<n>
  uint64_t seed = 0;
  std::string device = "auto";     // cpu | cuda | cuda:<i> | auto
  std::string precision = "fp32";  // fp32 | tf32 | bf16
  int threads = 0;                 // 0: all cores
  int checkpoint_every = 0;  // epochs between kept epoch-N checkpoints; last and best always exist
};

struct Config {
  ModelSettings model;
  DataSettings data;
  TrainSettings train;
  EvalSettings eval;
  RunSettings run;
  std::string preset;  // where it started; "" for a file
};

// The presets, in the order they are listed to people.
struct PresetRow {
  std::string name, about;
};
const std::vector<PresetRow>& presets();
Config preset(const std::string& name);  // throws UsageError that names the nearest ones

// Lays a JSON document (sections of keys) over `base`, or over the preset that its entry "preset"
// names; what a run's config.json says besides its settings is skipped. Numbers may be written as
// text like "8/255". Unknown sections and keys, wrong types and values out of range throw a
// one-line UsageError that names `origin`, the key, what must hold, what was given and the nearest
// known key. Nothing is said yet about combinations: see validate().
Config overlay(const Config& base, const nlohmann::json& document, const std::string& origin);
Config parse_config(const Config& base, const std::string& document, const std::string& origin);
Config read_config(const Config& base, const std::filesystem::path& file);
// One "section.key=value"; the value is read as the key's type ("8/255" for numbers).
Config override_with(const Config& base, const std::string& assignment);

nlohmann::json to_json(const Config& config);
void validate(const Config& config);  // ranges and combinations; throws UsageError

// The pixel value that data.cutout_fill names, nothing for the mean; throws UsageError.
std::optional<double> cutout_fill(const DataSettings& data);

// A line per key: name, type, default, range, meaning; for people.
std::string describe_config();

}  // namespace moat::train
