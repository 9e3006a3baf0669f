// A run folder as `moat report` reads it: the first byte says which of its files holds the rest.
#include "cli/report/headline.h"
#include "cli/report/page.h"
#include "tests/fuzz/reader.h"
#include "tests/report_fixture.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* bytes, size_t size) {
  using namespace moat;
  if (size == 0) return 0;
  static const char* const kFiles[] = {"config.json",
                                       "metrics.csv",
                                       "events.jsonl",
                                       "eval/pgd-50@1/report.json",
                                       "eval/pgd-50@1/per_sample.csv",
                                       "eval/pgd-50@1/adversarial.safetensors",
                                       "certificate/certificate.json",
                                       "certificate/radii.csv"};
  static const std::filesystem::path run = [] {
    tests::write_run(fuzz::folder());
    tests::write_certificate(fuzz::folder() / "certificate");
    std::filesystem::remove(fuzz::folder() / kFiles[5]);  // pictures take most of a page's time
    return fuzz::folder();
  }();
  const auto file = run / kFiles[bytes[0] % std::size(kFiles)];
  const std::string valid = tests::text_of(file);
  fuzz::put(file, fuzz::file_of(bytes + 1, size - 1));
  fuzz::may_refuse([&] {
    const std::vector<cli::report::Run> runs{cli::report::read_run(run)};
    cli::report::page(runs);
    cli::report::headline_table(runs).str();
    cli::report::headline_notes(runs);
    cli::report::headline_json(runs).dump();
  });
  valid.empty() ? void(std::filesystem::remove(file)) : fuzz::put(file, valid);
  return 0;
}
