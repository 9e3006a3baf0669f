#pragma once

#include <catch2/catch.hpp>
#include <filesystem>
#include <string>

#include "engine/io/file.h"
#include "train/trainer.h"

namespace moat::tests {

// Of a file below a run's checkpoints/.
inline std::string bytes_of(const std::filesystem::path& run, const char* file) {
  return engine::read_file(run / "checkpoints" / file);
}

// What training says that it stops with, which must be one line.
inline std::string error_of(const train::Config& config,
                            train::Resume resume = train::Resume::never,
                            const train::TrainWatcher& watcher = {}) {
  try {
    train::train(config, resume, watcher);
  } catch (const engine::Error& error) {
    CHECK(std::string(error.what()).find('\n') == std::string::npos);
    return error.what();
  }
  return "no error";
}

}  // namespace moat::tests
