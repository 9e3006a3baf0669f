#include "train/trainer.h"

#include <chrono>
#include <cmath>

#include "data/loader.h"
#include "engine/hardware.h"
#include "engine/io/json.h"
#include "engine/ops/finite.h"
#include "models/checkpoint.h"
#include "models/zoo.h"
#include "train/evaluate.h"
#include "train/images.h"
#include "train/last_batch.h"
#include "train/machine.h"
#include "train/methods.h"
#include "train/recorded_step.h"
#include "train/run_log.h"
#include "train/schedule.h"
#include "train/statistics.h"
#include "train/tfevents.h"
#include "train/token_room.h"
#include "train/trained_classes.h"
#include "train/validation.h"

namespace moat::train {

using namespace engine;
using nlohmann::ordered_json;

namespace {

constexpr double kCollapsedShare = 0.01;  // of an epoch's images
// Robust overfitting (Rice et al. 2020): this far below the best, with this many checks in between;
// a single low check is noise.
constexpr double kOverfitDrop = 0.05;
constexpr int kOverfitChecks = 3;

double ratio(int64_t part, int64_t whole) { return whole ? double(part) / double(whole) : 0; }

void require_one_size(const data::ImageSet& train, const data::ImageSet& validation) {
  require(train.height == validation.height && train.width == validation.width &&
              train.channels == validation.channels,
          [&] {
            return text("data set '", train.name, "': images for training are ", train.height, "x",
                        train.width, "x", train.channels, ", for validation ", validation.height,
                        "x", validation.width, "x", validation.channels,
                        "; set data.resize or data.crop to a side in pixels");
          });
}

data::Augmentation augmentation(const DataSettings& s, const data::ImageSet& set) {
  data::Augmentation out;
  if (s.augment != "none") out.flip = data::Flip::horizontal;
  if (s.augment == "crop-flip") {
    out.crop = data::Crop::window;
    out.crop_padding = s.crop_padding;
  } else if (s.augment == "resized-crop-flip") {
    out.crop = data::Crop::area;
    out.least_area = s.least_area;
  }
  if (s.cutout > 0) {
    out.cutout = s.cutout;
    const std::optional<double> value = cutout_fill(s);
    const std::vector<double> fill =
        value ? std::vector<double>(static_cast<size_t>(set.channels), *value)
              : data::channel_statistics(set).mean;
    out.cutout_fill = Tensor::from(std::vector<float>(fill.begin(), fill.end()), {set.channels});
  }
  return out;
}

data::LoaderOptions loader_options(const Config& c, const data::ImageSet& set, Device device) {
  return {.batch = c.train.batch,
          .seed = c.run.seed,
          .augmentation = augmentation(c.data, set),
          .mixing = {.mixup = c.data.mixup, .cutmix = c.data.cutmix},
          .device = device};
}

// One run in progress.
class Run {
 public:
  Run(const Config& config, const TrainWatcher& watcher)
      : config_(config),
        watcher_(watcher),
        train_set_(load_images(config.data, data::Split::train, config.data.limit)),
        validation_set_(
            load_images(config.data, data::Split::validation, config.eval.validation_limit)),
        learner_(classifier_settings(config, train_set_), config.run.seed,
                 parse_device(config.run.device)),
        step_(learner_, find_method(config.train.method)) {
    require_one_size(train_set_, validation_set_);
    require_batch_statistics(config.train, learner_.model.settings(), train_set_.size());
    const bool is_fresh =
        config.run.dir.empty() || !std::filesystem::exists(RunFolder(config.run.dir).state());
    if (is_fresh && !config.train.start.empty()) start_from(checkpoint_of(config.train.start));
    learner_.prepare(config);
  }

  Learner& learner() { return learner_; }

  TrainOutcome to_the_end(const OpenedRun& opened) {
    const auto start = std::chrono::steady_clock::now();
    folder_ = opened.folder;
    state_ = opened.state;
    const bool is_begun = std::filesystem::exists(folder_.state());
    if (is_begun) state_ = load_state(folder_.state(), learner_);
    state_.threads = config_.run.threads;
    if (!is_begun) save_state(folder_.state(), learner_, state_);  // where a rollback may lead
    EventLog events(folder_.events());
    MetricsLog metrics(folder_.metrics(), state_.epoch);
    TfEvents board(folder_.root(), state_.epoch);
    const std::string warning = company_warning(learner_.model.settings());
    for (const std::string& line : {warning, train_set_.warning, validation_set_.warning})
      if (!line.empty() && watcher_.warning) watcher_.warning(line);
    events_ = &events;
    events.write(state_.epoch ? "resumed" : "started", {{"epoch", state_.epoch}});
    const data::Loader loader(train_set_,
                              loader_options(config_, train_set_, learner_.model.device()));
    bool interrupted = false;
    while (!is_over(config_, state_)) {
      const auto epoch_start = std::chrono::steady_clock::now();
      const Epoch epoch = one_epoch(loader);
      if (!epoch.diverged.empty()) {
        roll_back(epoch.diverged);
        continue;
      }
      interrupted = !epoch.statistics;
      if (interrupted) break;
      Columns row = columns_of(*epoch.statistics);
      ++state_.epoch;
      validate(row);
      const std::chrono::duration<double> spent = std::chrono::steady_clock::now() - epoch_start;
      row.emplace_back("seconds", spent.count());
      log(row, metrics, board);
      save();
    }
    const std::chrono::duration<double> spent = std::chrono::steady_clock::now() - start;
    ordered_json end = {{"epoch", state_.epoch}, {"seconds", spent.count()}};
    if (!interrupted)
      end.update({{"best", state_.best}, {"best_epoch", state_.best_epoch}, {"last", last_}});
    events.write(interrupted ? "interrupted" : "finished", end);
    return {.folder = folder_.root(),
            .epochs = state_.epoch,
            .interrupted = interrupted,
            .seconds = spent.count(),
            .best = state_.best,
            .best_epoch = state_.best_epoch,
            .last = last_};
  }

 private:
  struct Epoch {
    // Nothing when the watcher asked to stop or it diverged: the state on disk is the last epoch's.
    std::optional<StepStatistics> statistics;
    std::string diverged = {};  // what is not finite
  };

  void start_from(const std::filesystem::path& checkpoint) {
    models::restore(learner_.model, "", read_safetensors(checkpoint),
                    text("train.start=", checkpoint.string()));
  }

  // Of the learning rate, in this epoch.
  double lr_factor(int64_t iteration) const {
    return std::ldexp(schedule_factor(config_.train, state_.epoch, iteration), -state_.rollbacks);
  }

  Epoch one_epoch(const data::Loader& loader) {
    StepStatistics sum;
    const double lr = config_.train.learning_rate;
    const double router_lr =
        config_.train.router_learning_rate > 0 ? config_.train.router_learning_rate : lr;
    StepSettings step{.train = config_.train,
                      .seed = config_.run.seed,
                      .epoch = state_.epoch,
                      .iteration = state_.iteration,
                      .learning_rate = lr,
                      .router_learning_rate = router_lr};
    data::Epoch batches = loader.epoch(state_.epoch);
    try {
      for (const data::Batch& batch : batches) {
        for (FlatParameters* group : learner_.groups())
          group->set_lr_factor(lr_factor(step.iteration));
        sum.add(step_.run(batch, step));
        ++step.iteration;
        if (learner_.average) learner_.average->update(step.iteration);
        const int64_t n = train_set_.size();
        if (watcher_.batch)
          watcher_.batch(state_.epoch * n + sum.images, config_.train.epochs * n, state_.epoch,
                         sum);
        if (watcher_.stop_requested && watcher_.stop_requested()) return {};
      }
      check_model();
    } catch (const NotFinite& diverged) {
      return {.statistics = {}, .diverged = told(step, diverged.what())};
    }
    step_.forget();  // before validation, which needs memory as well
    state_.iteration = step.iteration;
    return {sum};
  }

  // A divergence becomes an event and, with no rollback left, an error that says what is left.
  std::string told(const StepSettings& step, const std::string& what) {
    events_->write("diverged",
                   {{"epoch", step.epoch}, {"iteration", step.iteration}, {"what", what}});
    const std::string line = text("training diverged in epoch ", step.epoch + 1, ", iteration ",
                                  step.iteration, ": ", what);
    if (state_.rollbacks < config_.train.rollbacks) return line;
    const std::string root = folder_.root().string();
    throw Error(text(line, "; a lower train.learning_rate, train.clip_norm=1 or train.rollbacks=3 ",
                     "may help, in another run.dir",
                     state_.epoch == 0 ? ""
                                       : text(", where train.start=", root, " begins with the ",
                                              "weights of epoch ", state_.epoch)));
  }

  // The last epoch's state again, and half the learning rate; kept at once, so that a run killed
  // now goes on from here as well.
  void roll_back(const std::string& why) {
    state_ = load_state(folder_.state(), learner_);
    state_.threads = config_.run.threads;
    ++state_.rollbacks;
    save_state(folder_.state(), learner_, state_);
    warn("rolled_back",
         text(why, "; back to the state after epoch ", state_.epoch, ", from now on ",
              std::ldexp(1, -state_.rollbacks), " times the learning rate"));
  }

  // A running statistic can leave the range of float32 while every loss is finite.
  void check_model() {
    for (const NamedTensor& t : state_of(learner_.model))
      if (count_nonfinite(*t.value) > 0) throw Diverged(text(t.name, " is not finite"));
  }

  Columns columns_of(const StepStatistics& s) {
    Columns row;
    row.emplace_back("lr", config_.train.learning_rate * lr_factor(state_.iteration - 1));
    row.emplace_back("train_loss", s.images ? s.loss / double(s.images) : 0);
    if (s.clean_seen) row.emplace_back("train_clean", ratio(s.clean_correct, s.clean_seen));
    if (config_.train.method != "natural")
      row.emplace_back("train_robust", ratio(s.robust_correct, s.images));
    for (size_t e = 0; e < s.usage.size(); ++e) {
      const double share = ratio(s.usage[e], s.images);
      row.emplace_back(text("share_", e), share);
      if (share < kCollapsedShare)
        warn("expert_unused", text("epoch ", state_.epoch + 1, ": expert ", e, " served ",
                                   100 * share, " % of the images; the router may be collapsing"));
    }
    if (!s.usage.empty()) row.emplace_back("entropy", normalized_entropy(s.usage));
    return row;
  }

  void validate(Columns& row) {
    if (!is_validated_after(config_, state_.epoch)) return;
    const Validation v =
        of_average([&] { return validate_on(learner_, validation_set_, config_); });
    row.emplace_back("val_clean", v.clean);
    row.emplace_back("val_robust", v.robust);
    const double score = config_.train.method == "natural" ? v.clean : v.robust;
    last_ = score;
    if (score > state_.best) {
      state_.best = score;
      state_.best_epoch = state_.epoch;
      write_weights("best");
    } else if (score < state_.best - kOverfitDrop &&
               state_.epoch - state_.best_epoch >= kOverfitChecks * config_.eval.validation_every) {
      warn("overfitting",
           text("epoch ", state_.epoch, ": validation accuracy ", score, " is below the best, ",
                state_.best, " of epoch ", state_.best_epoch, "; checkpoints/best keeps that one"));
    }
  }

  void log(const Columns& row, MetricsLog& metrics, TfEvents& board) {
    const int epoch = state_.epoch - 1;
    metrics.row(epoch, row);
    ordered_json fields = {{"epoch", epoch}};
    std::string line = text("epoch ", state_.epoch, "/", config_.train.epochs);
    for (const auto& [name, value] : row) {
      board.scalar(name, epoch, value);
      fields[name] = value;
      line += text("  ", name, " ", std::round(value * 1e4) / 1e4);
    }
    events_->write("epoch", fields);
    if (watcher_.epoch) watcher_.epoch(line);
  }

  void warn(const char* event, const std::string& line) {
    events_->write(event, {{"epoch", state_.epoch}, {"what", line}});
    if (watcher_.warning) watcher_.warning(line);
  }

  // What `body` finds where the model has the numbers of its average, if one is kept.
  template <class Body>
  std::invoke_result_t<Body> of_average(Body&& body) {
    if (learner_.average) learner_.average->exchange();
    const auto found = body();
    if (learner_.average) learner_.average->exchange();
    return found;
  }

  void write_weights(const std::string& name) {
    const models::Metadata metadata = {{"method", config_.train.method},
                                       {"data", config_.data.name},
                                       {kClasses, classes_text(train_set_)},
                                       {"epoch", std::to_string(state_.epoch)},
                                       {"weights", learner_.average ? "average" : "trained"},
                                       {"selected_on", name == "best" ? "validation" : "none"}};
    write_safetensors(folder_.checkpoint(name),
                      of_average([&] { return models::to_file(learner_.model, metadata); }));
  }

  // The state comes last: it is what a resume believes.
  void save() {
    write_weights("last");
    if (config_.run.checkpoint_every > 0 && state_.epoch % config_.run.checkpoint_every == 0)
      write_weights(text("epoch-", state_.epoch));
    save_state(folder_.state(), learner_, state_);
  }

  const Config& config_;
  const TrainWatcher& watcher_;
  data::ImageSet train_set_, validation_set_;
  Learner learner_;
  RecordedStep step_;
  RunFolder folder_{""};
  RunState state_;
  double last_ = -1;  // the last validation accuracy of this call
  EventLog* events_ = nullptr;
};

}  // namespace

models::ClassifierSettings classifier_settings(const Config& config, const data::ImageSet& set) {
  models::ClassifierSettings s = zoo_settings(config.model);
  s.height = set.height;
  s.width = set.width;
  s.channels = set.channels;
  s.classes = static_cast<int>(set.classes());
  if (config.model.normalize == "data") {
    const data::ChannelStatistics statistics = data::channel_statistics(set);
    for (size_t c = 0; c < statistics.deviation.size(); ++c)
      require(statistics.deviation[c] > 0, [&] {
        return text("model.normalize=data divides channels by their deviations, and channel ", c,
                    " of the training images of '", set.name, "' is ", statistics.mean[c],
                    " everywhere; set model.normalize=none");
      });
    s.mean = statistics.mean;
    s.deviation = statistics.deviation;
  }
  return config.train.method == "jtdmoe" ? dual_settings(config.model, s) : s;
}

std::string resolved_json(const Config& config, models::Classifier& model) {
  ordered_json j = {{"tool", tool_json()}, {"machine", machine_json(model.device())}};
  const ordered_json settings = ordered_json(to_json(config));
  for (const auto& [key, value] : settings.items()) j[key] = value;
  const auto cost = model.cost();
  j["architecture"] = ordered_json::parse(models::architecture_json(model.settings()));
  j["parameters"] = count_parameters(model);
  j["macs"] = {{"executed", cost.executed()},
               {"path", cost.path},
               {"router", cost.router},
               {"all_experts", cost.all_experts}};
  return json_text(j, 2) + "\n";
}

TrainOutcome train(const Config& config, Resume resume, const TrainWatcher& watcher) {
  Run run(config, watcher);
  const OpenedRun opened = open_run(config, resolved_json(config, run.learner().model), resume);
  if (opened.is_finished)
    return {.folder = opened.folder.root(), .epochs = opened.state.epoch, .was_finished = true};
  return run.to_the_end(opened);
}

}  // namespace moat::train
