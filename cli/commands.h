#pragma once

#include <CLI/CLI.hpp>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>

#include "train/config.h"

namespace moat::cli {

// The options that every command takes; an absent one leaves the configuration alone.
struct Globals {
  bool json = false;   // one JSON document on standard output and nothing else there
  bool quiet = false;  // no progress
  std::optional<uint64_t> seed;
  std::optional<std::string> device, precision;
  std::optional<int> threads;
};
void add_global_options(CLI::App& app, Globals& globals);

// The settings with the options given on the command line laid over them.
train::RunSettings with_globals(train::RunSettings run, const Globals& globals);

// Checks the device, sets its precision and the threads, once, before the first tensor is made.
void set_up(const train::RunSettings& run);

struct CommandText {
  const char *name, *about, *example;
};

// Adds a sub-command that only has others below it.
CLI::App& add_group(CLI::App& app, const char* name, const char* about);

// Adds a sub-command that runs `run` after the global options have been checked and set up.
CLI::App& add_command(CLI::App& app, const Globals& globals, const CommandText& text,
                      std::function<void()> run);

// A line on standard error; nothing of an empty one.
void warn(const std::string& line);

// `document` for --json, else `people`; to standard output.
void print(const Globals& globals, const nlohmann::ordered_json& document,
           const std::string& people);

// Refuses another --precision; `what` is "a protocol is always run", `advice` follows.
void require_fp32(const Globals& globals, const char* what, const char* advice = "");

// What --out names must not be there yet.
void require_new_file(const std::string& out);

// A folder that a command fills must be new or empty, or hold what an earlier call of it left.
void require_own_folder(const std::filesystem::path& folder, const std::filesystem::path& left);

// The line that explains a command line CLI11 could not read.
std::string explain(const CLI::App& app, const CLI::ParseError& error);

// One per file cli/<command>.cpp.
void add_train(CLI::App& app, Globals& globals);
void add_eval(CLI::App& app, Globals& globals);
void add_attack(CLI::App& app, Globals& globals);
void add_certify(CLI::App& app, Globals& globals);
void add_predict(CLI::App& app, Globals& globals);
void add_export(CLI::App& app, Globals& globals);
void add_import(CLI::App& app, Globals& globals);
void add_report(CLI::App& app, Globals& globals);
void add_routes(CLI::App& app, Globals& globals);
void add_bench(CLI::App& app, Globals& globals);
void add_study(CLI::App& app, Globals& globals);
void add_curve(CLI::App& app, Globals& globals);
void add_mix(CLI::App& app, Globals& globals);
void add_models(CLI::App& app, Globals& globals);
void add_data(CLI::App& app, Globals& globals);
void add_info(CLI::App& app, Globals& globals);

}  // namespace moat::cli
