#include <memory>
#include <nlohmann/json.hpp>

#include "cli/data_commands.h"
#include "cli/progress.h"
#include "cli/session.h"
#include "data/download.h"
#include "engine/error.h"
#include "engine/names.h"

namespace moat::cli {

namespace {

struct Asked {
  std::string name, root, url;
};

void data_download(const Globals& globals, const Asked& asked) {
  const data::Publication& publication =
      engine::find_named("what is downloaded", asked.name, data::publications(),
                         [](const data::Publication& p) { return p.name; });
  Progress::Output output{};
  output.unit = "bytes";
  Progress progress(progress_style(globals), publication.bytes, 0, output);
  const std::filesystem::path folder =
      data::download(publication, asked.root, asked.url, {},
                     [&](int64_t done, int64_t) { progress.update(done, publication.archive); });
  progress.clear();
  print(globals,
        {{"name", asked.name},
         {"folder", folder.string()},
         {"archive", publication.archive},
         {"md5", publication.md5}},
        engine::text(folder.string(), " is there (", publication.archive,
                     " beside it can go); see moat data info ", asked.name, " --root ", asked.root,
                     "\n"));
}

}  // namespace

void add_data_download(CLI::App& data, Globals& globals) {
  const auto asked = std::make_shared<Asked>();
  CLI::App& command = add_command(
      data, globals,
      {"download", "a published data set, checked and unpacked; goes on where it was broken off",
       "moat data download tiny-imagenet --root PATH"},
      [&globals, asked] { data_download(globals, *asked); });
  command.add_option("name", asked->name, "cifar10, cifar100 or tiny-imagenet")->required();
  command.add_option("--root", asked->root, "folder that gets the files")->required();
  command.add_option("--url", asked->url, "another place that has the same archive");
}

}  // namespace moat::cli
