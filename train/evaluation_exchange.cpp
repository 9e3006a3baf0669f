#include "train/evaluation_exchange.h"

#include <algorithm>
#include <cctype>
#include <cmath>
#include <cstdio>

#include "engine/io/file.h"
#include "engine/io/json.h"
#include "train/run_log.h"
#include "train/statistics.h"

namespace moat::train {

using namespace engine;

namespace {

std::string upper(std::string name) {
  std::transform(name.begin(), name.end(), name.begin(),
                 [](unsigned char c) { return static_cast<char>(std::toupper(c)); });
  return name;
}

double percent(int64_t part, int64_t whole) { return 100 * fraction(part, whole); }

std::string decimals(double value, int places) {
  char text[64];
  std::snprintf(text, sizeof text, "%.*f", places, value);
  return text;
}

// "8/255", "0.5".
std::string eps_text(double eps) {
  const double whole = std::round(eps * 255);
  return std::abs(eps * 255 - whole) < 1e-6 && eps < 0.25 ? decimals(whole, 0) + "/255"
                                                          : number_text(eps);
}

}  // namespace

void write_autoattack_log(const std::filesystem::path& file, const Evaluation& e,
                          const EvaluationSubject& on) {
  const int64_t n = on.set.size();
  write_file(file, [&](std::ostream& out) {
    int64_t left = e.clean_correct(on.set);
    double seconds = 0;
    out << "initial accuracy: " << decimals(percent(left, n), 2) << "%\n";
    for (size_t a = 0; a < e.protocol.attacks.size(); ++a) {
      const std::string& name = e.protocol.attacks[a].name;
      const int64_t after = e.robust_after(a, on.set);
      seconds += e.spent[a].seconds;
      out << name << " - 1/1 - " << left - after << " out of " << left
          << " successfully perturbed\n"
          << "robust accuracy after " << upper(name) << ": " << decimals(percent(after, n), 2)
          << "% (total time " << decimals(seconds, 1) << " s)\n";
      left = after;
    }
    const bool linf = on.threat.norm == Norm::linf;
    double largest = 0;
    for (const attacks::SampleResult& s : e.samples)
      largest = std::max(largest, linf ? s.linf : s.l2);
    const auto pixels = e.adversarial.to_vector<float>();
    const auto nans =
        std::count_if(pixels.begin(), pixels.end(), [](float x) { return std::isnan(x); });
    const auto [low, high] = std::minmax_element(pixels.begin(), pixels.end());
    out << "max " << (linf ? "Linf" : "L2") << " perturbation: " << decimals(largest, 5)
        << ", nan in tensor: " << nans << ", max: " << decimals(pixels.empty() ? 0 : *high, 5)
        << ", min: " << decimals(pixels.empty() ? 0 : *low, 5)
        << "\nrobust accuracy: " << decimals(percent(left, n), 2) << "%\n";
  });
}

void write_robustbench_card(const std::filesystem::path& file, const Evaluation& e,
                            const EvaluationSubject& on) {
  const int64_t n = on.set.size();
  const nlohmann::ordered_json card = {
      {"link", ""},
      {"name", ""},
      {"authors", ""},
      {"additional_data", nullptr},
      {"number_forward_passes", 1},
      {"dataset", on.set.name},
      {"venue", ""},
      {"architecture", on.model.settings().name},
      {"eps", eps_text(on.threat.eps)},
      {"clean_acc", decimals(percent(e.clean_correct(on.set), n), 2)},
      {"reported", ""},
      {"autoattack_acc", decimals(percent(e.robust_correct(on.set), n), 2)},
      {"footnote", text("moat ", e.protocol.name, " on ", n, " images; see report.json")},
      {"unreliable", nullptr}};
  engine::write_json(file, card);
}

}  // namespace moat::train
