#include <memory>
#include <nlohmann/json.hpp>

#include "cli/data_commands.h"
#include "cli/image_options.h"
#include "cli/table.h"
#include "data/catalog.h"
#include "data/converted.h"
#include "engine/error.h"
#include "engine/names.h"

namespace moat::cli {

namespace {

void data_info(const Globals& globals, const data::DataConfig& config) {
  nlohmann::ordered_json document = {{"name", config.name}};
  Table splits({{"split"}, {"images", Align::right}, {"shape"}, {"SHA-256 of pixels and labels"}});
  std::vector<std::vector<int64_t>> counts;
  std::vector<std::string> classes;
  for (const data::Split split : {data::Split::train, data::Split::validation, data::Split::test}) {
    const data::ImageSet set = data::load(config, split);
    warn(set.warning);
    const std::string hash = data::content_hash(set);
    counts.push_back(data::class_counts(set));
    classes = set.class_names;
    splits.row({data::name_of(split), std::to_string(set.size()),
                engine::text(set.height, "x", set.width, "x", set.channels), hash});
    document["splits"][data::name_of(split)] = {
        {"images", set.size()},     {"height", set.height},          {"width", set.width},
        {"channels", set.channels}, {"class_counts", counts.back()}, {"sha256", hash}};
  }
  if (config.name == "converted") data::verify_converted(config.path);
  document["classes"] = classes;
  Table per_class(
      {{"class"}, {"train", Align::right}, {"validation", Align::right}, {"test", Align::right}});
  for (size_t i = 0; i < classes.size(); ++i)
    per_class.row({classes[i], std::to_string(counts[0][i]), std::to_string(counts[1][i]),
                   std::to_string(counts[2][i])});
  print(globals, document, splits.str() + "\n" + per_class.str());
}

std::string names_of_data_sets() {
  std::vector<std::string> names;
  for (const data::CatalogEntry& entry : data::catalog()) names.emplace_back(entry.name);
  return engine::listed(names);
}

}  // namespace

void add_resizing(CLI::App& command, data::Resizing& resize) {
  command.add_option("--resize", resize.side, "side of the images of image files; 0: as stored");
  command.add_option_function<std::string>(
      "--resize-by", [&resize](const std::string& by) { resize.by = data::parse_resize_by(by); },
      "both-sides are resized to it, or the shorter-side, and the middle is kept");
}

void add_data(CLI::App& app, Globals& globals) {
  CLI::App& data = add_group(app, "data", "data sets");
  const auto config = std::make_shared<data::DataConfig>();
  const auto root = std::make_shared<std::string>();
  CLI::App& info = add_command(data, globals,
                               {"info", "what a data set holds: sizes, classes, content hashes",
                                "moat data info imagefolder --root PATH"},
                               [&globals, config, root] {
                                 check_root(config->name, *root, *root);
                                 config->path = *root;
                                 data_info(globals, *config);
                               });
  info.add_option("name", config->name, names_of_data_sets())->required();
  info.add_option("--root", *root, "folder of the files; of a converted set its file");
  add_resizing(info, config->resize);
  add_data_convert(data, globals);
  add_data_download(data, globals);
}

}  // namespace moat::cli
