#include "cli/report/certificate.h"

#include <algorithm>
#include <cmath>

#include "cli/number_format.h"
#include "cli/report/csv.h"
#include "cli/report/svg.h"
#include "engine/error.h"
#include "train/certify/attacked.h"
#include "train/certify/certificate.h"
#include "train/numbers.h"
#include "train/statistics.h"

namespace moat::cli::report {

using engine::text;

namespace {

JsonView view(const Certificate& c) { return {c.document, c.file}; }

int64_t images(const Certificate& c) { return view(c).at("data").at("n").count(); }

std::string share(const JsonView& row, const char* key, int64_t n) {
  const auto value = row.find(key);
  return value ? percent(value->fraction(), n) : "–";
}

std::string range(const train::Interval& i, int64_t n) {
  return percent(i.low, n) + " … " + percent(i.high, n);
}

std::string number(const JsonView& row, const char* key) {
  const auto value = row.find(key);
  return value ? brief(value->number()) : "inf";
}

// The attack at the same radii; empty where none was run.
std::string attack(const Certificate& c) {
  const std::string protocol = view(c).at("protocol").str();
  return protocol == train::kNoAttack ? "" : protocol;
}

std::vector<double> radii_of_right(const std::filesystem::path& file) {
  const Csv csv = read_csv(file);
  const std::vector<double> labels = csv.numbers("label"), predictions = csv.numbers("prediction"),
                            radii = csv.numbers("radius");
  std::vector<double> right;
  for (size_t i = 0; i < radii.size(); ++i)
    if (predictions[i] == labels[i]) right.push_back(radii[i]);
  return right;
}

}  // namespace

std::optional<Certificate> read_certificate(const std::filesystem::path& folder) {
  const std::filesystem::path file = folder / "certificate.json";
  if (!std::filesystem::exists(file)) return std::nullopt;
  Certificate c{file, read_json(file), radii_of_right(folder / "radii.csv")};
  const JsonView schema = view(c).at("schema");
  if (schema.count() != 1) schema.fail("1, which this moat reads");
  return c;
}

Table certified_table(const Certificate& c) {
  const int64_t n = images(c);
  const JsonView results = view(c).at("results");
  std::vector<Column> columns{{text("on ", n, " images, L∞")},
                              {"certified %", Align::right},
                              {"95 % interval", Align::right}};
  std::vector<const char*> shares{"by_interval", "by_affine", "by_lipschitz"};
  for (const char* title : {"by interval", "by affine", "by Lipschitz"})
    columns.push_back({title, Align::right});
  if (const std::string protocol = attack(c); !protocol.empty()) {
    columns.push_back({"after " + protocol, Align::right});
    shares.push_back("attacked");
  }
  columns.push_back({"route kept", Align::right});
  shares.push_back("route_kept");
  Table table(columns);
  std::vector<std::string> clean(columns.size(), "–");
  clean[0] = "clean";
  clean[1] = share(results, "clean", n);
  clean[2] = range(train::wilson_interval(
                       std::llround(results.at("clean").fraction() * static_cast<double>(n)), n),
                   n);
  table.row(clean);
  for (const JsonView& row : results.at("curve").items()) {
    const auto bounds = row.at("ci95").items();
    if (bounds.size() != 2) row.at("ci95").fail("a list of two fractions");
    std::vector<std::string> cells{"eps " + train::print_eps(row.at("eps").number()),
                                   share(row, "certified", n),
                                   range({bounds[0].fraction(), bounds[1].fraction()}, n)};
    for (const char* key : shares) cells.push_back(share(row, key, n));
    table.row(cells);
  }
  return table;
}

Table proofs_table(const Certificate& c) {
  Table table({{"proof"}, {"what it says here"}});
  for (const JsonView& method : view(c).at("methods").items())
    table.row(
        {method.at("name").str(), (method.at("applies").json() == true ? "" : "does not apply: ") +
                                      method.at("says").str()});
  return table;
}

Table constants_table(const Certificate& c) {
  Table table({{"Lipschitz constant, L∞"},
               {"at most", Align::right},
               {text("in balls of ", number(view(c), "ball_of_local_constants")), Align::right},
               {"at least", Align::right},
               {"bounds"}});
  for (const JsonView& row : view(c).at("constants").items())
    table.row({row.at("name").str(), number(row, "upper_bound"),
               number(row, "upper_bound_in_balls"), number(row, "sampled_lower_bound"),
               row.at("bounds").str()});
  return table;
}

std::string radii_note(const Certificate& c) {
  const JsonView radius = view(c).at("results").at("radius_of_right");
  return text("radius of right images: median ", number(radius, "median"), ", largest ",
              number(radius, "largest"));
}

std::string constants_note(const Certificate& c) {
  return text("\"in balls\" and \"at least\" are of the first ",
              view(c).at("sampled_images").count(),
              " images; the last is the largest gradient seen there, no bound");
}

std::string certified_chart(const Certificate& c) {
  constexpr int kPointsPerDecade = 12;
  const auto n = static_cast<double>(images(c));
  Series certified{"certified", {}, {}, 0}, attacked{"after " + attack(c), {}, {}, 1};
  double largest = 0;
  for (const JsonView& row : view(c).at("results").at("curve").items()) {
    const double eps = row.at("eps").number();
    largest = std::max(largest, eps);
    const auto resisted = row.find("attacked");
    if (!(eps > 0) || !resisted) continue;
    attacked.x.push_back(std::log10(eps));
    attacked.y.push_back(resisted->fraction());
  }
  if (!(largest > train::kSmallestRadius)) return {};
  const double to = std::log10(largest);
  const int points = static_cast<int>((to - std::log10(train::kSmallestRadius)) * kPointsPerDecade);
  for (int k = 0; k <= points; ++k) {
    const double x = to - double(points - k) / kPointsPerDecade, eps = std::pow(10, x);
    certified.x.push_back(x);
    certified.y.push_back(
        static_cast<double>(std::ranges::count_if(c.radii, [&](double r) { return r >= eps; })) /
        n);
  }
  LineChart chart{
      text("accuracy of ", images(c), " images, L∞"), "log10 of eps", Unit::percent, {certified}};
  if (!attacked.x.empty()) chart.series.push_back(attacked);
  return line_chart(chart);
}

}  // namespace moat::cli::report
