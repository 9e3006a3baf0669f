#include "cli/training.h"

#include <cmath>
#include <iostream>
#include <memory>

#include "cli/interrupt.h"
#include "cli/number_format.h"
#include "cli/session.h"

namespace moat::cli {

using engine::text;

train::TrainOutcome train_watched(const train::Config& config, train::Resume resume,
                                  const Globals& globals) {
  catch_interrupts();
  std::unique_ptr<Progress> progress;
  train::TrainWatcher watcher;
  watcher.batch = [&](int64_t done, int64_t total, int epoch, const train::StepStatistics& s) {
    if (!progress)  // the first batch warms up and does not count
      progress = std::make_unique<Progress>(progress_style(globals), total, done);
    std::string note = "loss " + fixed(s.loss / double(s.images), 3);
    if (config.train.method != "natural")
      note += "  robust " + fixed(100 * double(s.robust_correct) / double(s.images), 1) + " %";
    progress->update(
        done, text(config.train.method, " epoch ", epoch + 1, "/", config.train.epochs), note);
  };
  const auto say = [&](const std::string& line) {
    if (progress)
      progress->finished(line);
    else if (progress_style(globals) != ProgressStyle::off)
      std::cerr << line << '\n';
  };
  watcher.epoch = say;
  watcher.warning = [&](const std::string& line) { say("warning: " + line); };
  watcher.stop_requested = is_interrupted;
  return train::train(config, resume, watcher);
}

std::string training_text(const train::Config& config, const train::TrainOutcome& outcome) {
  std::string lines =
      text("trained ", outcome.epochs, outcome.epochs == 1 ? " epoch, " : " epochs, ",
           std::lround(outcome.seconds), " s: ", outcome.folder.string(), "\n");
  if (outcome.last >= 0)
    lines +=
        text(config.train.method == "natural" ? "accuracy" : "robust accuracy",
             " on the validation split: best ", fixed(100 * outcome.best, 1), " % after epoch ",
             outcome.best_epoch, ", last ", fixed(100 * outcome.last, 1), " %\n");
  if (outcome.epochs < config.train.epochs)
    lines += text("ended before epoch ", config.train.epochs, ": none of the last ",
                  config.train.patience, " epochs was better (train.patience)\n");
  return lines;
}

}  // namespace moat::cli
