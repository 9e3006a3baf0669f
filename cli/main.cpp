#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <exception>
#include <iostream>
#include <new>
#include <string>

#include "cli/commands.h"
#include "engine/build_info.h"
#include "engine/error.h"

namespace moat::cli {

namespace {

enum ExitCode { kDone = 0, kFailed = 1, kBadUsage = 2 };

int fail(ExitCode code, std::string message) {
  std::replace_if(
      message.begin(), message.end(),
      [](char c) { return static_cast<unsigned char>(c) < ' ' || c == '\x7f'; }, ' ');
  std::cerr << "moat: " << message << '\n';
  return code;
}

// Threads that wait for others are to spin for a moment and then to sleep. GCC's OpenMP spins for
// milliseconds: beside a second program on the same cores, spinning threads keep those they wait
// for from running, and both programs crawl. An epoch of the digits on two cores takes 55 s beside
// another as it is and 3.5 s like this. Alone, six epochs of demo-moe take 4.2 s, as with spinning
// (4.4 s); a count of 1000 helps two programs more (2 s an epoch) and costs one (6.4 s). The
// runtime reads its settings when it is loaded, so the program starts once more with them.
void let_waiting_threads_sleep(char** argv) {
  if (std::getenv("OMP_WAIT_POLICY") || std::getenv("GOMP_SPINCOUNT")) return;
  if (setenv("GOMP_SPINCOUNT", "5000", 0) == 0)
    execv("/proc/self/exe", argv);  // comes back only when it fails, and then all is as before
}

void add_commands(CLI::App& app, Globals& globals) {
  add_train(app, globals);
  add_eval(app, globals);
  add_attack(app, globals);
  add_certify(app, globals);
  add_predict(app, globals);
  add_mix(app, globals);
  add_curve(app, globals);
  add_study(app, globals);
  add_export(app, globals);
  add_import(app, globals);
  add_report(app, globals);
  add_routes(app, globals);
  add_bench(app, globals);
  add_models(app, globals);
  add_data(app, globals);
  add_info(app, globals);
}

int run(int argc, char** argv) {
  CLI::App app{"Adversarial training of mixtures of experts", "moat"};
  const engine::BuildInfo& build = engine::build_info();
  app.set_version_flag("--version", "moat " + build.version + " (" + build.revision + ")");
  app.require_subcommand(1);
  app.fallthrough();
  Globals globals;
  add_global_options(app, globals);
  add_commands(app, globals);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& e) {
    if (e.get_exit_code() != 0) return fail(kBadUsage, explain(app, e));
    if (const auto extras = app.remaining(true); !extras.empty())  // moat compare --help
      return fail(kBadUsage, explain(app, CLI::ExtrasError(app.get_name(), extras)));
    app.exit(e);  // --help, --version
  }
  std::cout.flush();
  engine::require(std::cout.good(), "standard output must be writable; is the disk full?");
  return kDone;
}

}  // namespace

}  // namespace moat::cli

int main(int argc, char** argv) {
  using namespace moat;
  cli::let_waiting_threads_sleep(argv);
  try {
    return cli::run(argc, argv);
  } catch (const engine::UsageError& e) {
    return cli::fail(cli::kBadUsage, e.what());
  } catch (const std::bad_alloc&) {
    return cli::fail(cli::kFailed, "out of memory; a smaller batch needs less");
  } catch (const std::exception& e) {
    return cli::fail(cli::kFailed, e.what());
  }
}
