#include "cli/commands.h"

#include <algorithm>
#include <charconv>
#include <iostream>
#include <utility>
#include <vector>

#include "engine/error.h"
#include "engine/hardware.h"
#include "engine/io/json.h"
#include "engine/names.h"
#include "train/field.h"

namespace moat::cli {

namespace {

// CLI11 would take -1 for 2^64 - 1.
uint64_t parse_seed(const std::string& given) {
  uint64_t seed = 0;
  const char* end = given.data() + given.size();
  const auto [stop, error] = std::from_chars(given.data(), end, seed);
  if (error != std::errc() || stop != end)
    throw engine::UsageError("--seed must be a whole number from 0 to 2^64 - 1, got '" + given +
                             "'");
  return seed;
}

// The last sub-command that was understood.
const CLI::App& innermost(const CLI::App& app) {
  const std::vector<CLI::App*> chosen = app.get_subcommands();
  return chosen.empty() ? app : innermost(*chosen.front());
}

std::string path_of(const CLI::App& command) {
  const std::string& own = command.get_name();
  return command.get_parent() ? path_of(*command.get_parent()) + " " + own : own;
}

std::vector<std::string> option_names(const CLI::App& command) {
  std::vector<std::string> names;
  for (const CLI::App* scope = &command; scope; scope = scope->get_parent())
    for (const CLI::Option* option : scope->get_options())
      for (const std::string& name : option->get_lnames()) names.push_back("--" + name);
  return names;
}

// "; as a setting it is eval.eps=…" where --eps is given to a command that takes such a setting.
// Which ones it takes its description says: "section.key=value …" all, "eval.key=value …",
// "model.capacity".
std::string as_setting(const CLI::App& command, const std::string& given) {
  const CLI::Option* settings = command.get_option_no_throw("settings");
  if (!settings) return "";
  std::string key = given.substr(std::min(given.find_first_not_of('-'), given.size()));
  std::ranges::replace(key, '-', '_');
  const std::string& taken = settings->get_description();
  std::vector<std::string> found;
  const auto takes = [&](const std::string& what) { return taken.find(what) != std::string::npos; };
  for (const train::Field& field : train::fields()) {
    if (field.key != key ||
        !(takes("section.key") || takes(field.section + ".key") || takes(field.name())))
      continue;
    if (field.section == command.get_name()) return "; as a setting it is " + field.name() + "=…";
    found.push_back(field.name() + "=…");
  }
  return found.empty() ? "" : "; as a setting it is " + engine::listed(found);
}

std::vector<std::string> command_names(const CLI::App& command) {
  std::vector<std::string> names;
  for (const CLI::App* each : command.get_subcommands({})) names.push_back(each->get_name());
  return names;
}

// CLI11 says "Could not convert: --limit = x".
std::string explain_conversion(const CLI::App& command, const std::string& what) {
  const size_t colon = what.find(": "), equals = what.find(" = ", colon);
  if (equals == std::string::npos) return what;
  const std::string name = what.substr(colon + 2, equals - colon - 2);
  const CLI::Option* option = nullptr;
  for (const CLI::App* scope = &command; scope && !option; scope = scope->get_parent())
    option = scope->get_option_no_throw(name);
  const bool is_whole = !option || option->get_type_name() != "FLOAT";
  return name + " must be " + (is_whole ? "a whole number of usual size" : "a number") + ", got '" +
         what.substr(equals + 3) + "'";
}

}  // namespace

void add_global_options(CLI::App& app, Globals& globals) {
  const std::string group = "Options of every command";
  app.add_flag("--json", globals.json, "one JSON document on standard output")->group(group);
  app.add_flag("--quiet", globals.quiet, "no progress")->group(group);
  const auto read_seed = [&globals](const std::string& given) { globals.seed = parse_seed(given); };
  app.add_option_function<std::string>("--seed", read_seed, "every random number follows from it")
      ->group(group);
  app.add_option("--device", globals.device, "cpu, cuda, cuda:<i> or auto")->group(group);
  app.add_option("--precision", globals.precision, "fp32, tf32 or bf16")->group(group);
  app.add_option("--threads", globals.threads,
                 "CPU threads; all cores unless given. Beside other busy programs one "
                 "is often faster than several")
      ->group(group);
}

train::RunSettings with_globals(train::RunSettings run, const Globals& globals) {
  if (globals.threads && *globals.threads < 1)
    throw engine::UsageError(engine::text("--threads must be at least 1, got ", *globals.threads));
  run.seed = globals.seed.value_or(run.seed);
  run.device = globals.device.value_or(run.device);
  run.precision = globals.precision.value_or(run.precision);
  run.threads = globals.threads.value_or(run.threads);
  return run;
}

void set_up(const train::RunSettings& run) {
  engine::use_precision(engine::parse_precision(run.precision), engine::parse_device(run.device));
  engine::set_threads(run.threads);
}

CLI::App& add_group(CLI::App& app, const char* name, const char* about) {
  CLI::App& group = *app.add_subcommand(name, about);
  group.footer("");  // not the program's examples
  group.require_subcommand(1);
  return group;
}

CLI::App& add_command(CLI::App& app, const Globals& globals, const CommandText& text,
                      std::function<void()> run) {
  CLI::App& command = *app.add_subcommand(text.name, text.about);
  const std::string example = std::string("  ") + text.example;
  command.footer("Example:\n" + example +
                 "\n\n--json, --quiet, --seed, --device, --precision, --threads: see moat --help");
  command.option_defaults()->always_capture_default();  // --help shows them
  for (CLI::App* above = &app; above; above = above->get_parent()) {
    const std::string before = above->get_footer();
    above->footer((before.empty() ? "Examples:" : before) + "\n" + example);
  }
  command.callback([&globals, run = std::move(run)] {
    set_up(with_globals({}, globals));
    run();
  });
  return command;
}

void warn(const std::string& line) {
  if (!line.empty()) std::cerr << "warning: " << line << '\n';
}

void require_fp32(const Globals& globals, const char* what, const char* advice) {
  if (globals.precision.value_or("fp32") != "fp32")
    throw engine::UsageError(
        engine::text(what, " in fp32, got --precision ", *globals.precision, advice));
}

void require_own_folder(const std::filesystem::path& folder, const std::filesystem::path& left) {
  namespace fs = std::filesystem;
  engine::require(!fs::exists(folder) || fs::is_empty(folder) || fs::exists(left), [&] {
    return engine::text("'", folder.string(), "' must be a new or empty folder, it holds other ",
                        "files; choose another one");
  });
}

void require_new_file(const std::string& out) {
  engine::require(!std::filesystem::exists(out), [&] {
    return engine::text("'", out, "' exists and is never overwritten; choose another --out");
  });
}

void print(const Globals& globals, const nlohmann::ordered_json& document,
           const std::string& people) {
  if (globals.json)
    std::cout << engine::json_text(document, 2) << '\n';
  else
    std::cout << people;
}

std::string explain(const CLI::App& app, const CLI::ParseError& error) {
  const CLI::App& command = innermost(app);
  const std::string help = "; see " + path_of(command) + " --help";
  const std::vector<std::string> commands = command_names(command), extras = app.remaining(true);
  const auto reason = static_cast<CLI::ExitCodes>(error.get_exit_code());
  if (reason == CLI::ExitCodes::ConversionError)
    return explain_conversion(command, error.what()) + help;
  const bool lacks_command = reason == CLI::ExitCodes::RequiredError && !commands.empty();
  if (extras.empty() && lacks_command) return "a command must be given" + help;
  if (extras.empty() || !(lacks_command || reason == CLI::ExitCodes::ExtrasError))
    return error.what() + help;
  const std::string given = extras.front().substr(0, extras.front().find('='));
  if (given.starts_with("-"))
    return "there is no option '" + given + "'" + engine::suggestion(given, option_names(command)) +
           as_setting(command, given) + help;
  const std::string kind = commands.empty() ? "argument" : "command";
  return "there is no " + kind + " '" + given + "'" + engine::suggestion(given, commands) + help;
}

}  // namespace moat::cli
