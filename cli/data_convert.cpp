#include <filesystem>
#include <memory>
#include <nlohmann/json.hpp>

#include "cli/data_commands.h"
#include "cli/image_options.h"
#include "cli/interrupt.h"
#include "cli/progress.h"
#include "cli/session.h"
#include "data/catalog.h"
#include "data/converted.h"
#include "engine/error.h"

namespace moat::cli {

namespace {

void data_convert(const Globals& globals, const data::DataConfig& config,
                  const std::filesystem::path& file) {
  std::vector<data::Source> splits;
  for (const data::Split split : {data::Split::train, data::Split::validation, data::Split::test})
    splits.push_back(data::open(config, split));
  for (const data::Source& source : splits) warn(source.set.warning);
  Progress progress(progress_style(globals), 0);
  catch_interrupts();
  data::write_converted(file, splits, [&](int64_t done, int64_t total) {
    engine::require(!is_interrupted(), "interrupted; nothing was written");
    progress.set_total(total);
    progress.update(done, "convert");
  });
  progress.clear();
  const auto bytes = std::filesystem::file_size(file);
  nlohmann::ordered_json document = {
      {"name", config.name}, {"file", file.string()}, {"bytes", bytes}};
  for (const data::Source& source : splits)
    document["images"][data::name_of(source.set.split)] = source.set.size();
  print(globals, document,
        engine::text("wrote ", file.string(), ", ",
                     bytes < (1 << 20) ? engine::text(bytes >> 10, " KiB")
                                       : engine::text(bytes >> 20, " MiB"),
                     "; use it with data.name=converted data.path=", file.string(), "\n"));
}

}  // namespace

void add_data_convert(CLI::App& data, Globals& globals) {
  const auto config = std::make_shared<data::DataConfig>();
  const auto root = std::make_shared<std::string>(), file = std::make_shared<std::string>();
  CLI::App& command =
      add_command(data, globals,
                  {"convert", "a data set in one file that is used where it lies",
                   "moat data convert tiny-imagenet --root PATH --out tiny-imagenet.moatset"},
                  [&globals, config, root, file] {
                    check_root(config->name, *root, *root);
                    config->path = *root;
                    data_convert(globals, *config, *file);
                  });
  command.add_option("name", config->name, "a data set (moat data info)")->required();
  command.add_option("--root", *root, "folder of the files");
  command.add_option("--out", *file, "the file to write; never overwritten")->required();
  add_resizing(command, config->resize);
}

}  // namespace moat::cli
