#pragma once

#include <optional>
#include <string>
#include <vector>

#include "train/statistics.h"

namespace moat::cli::report {

// Charts as inline SVG. Colours are the page's CSS variables (--series-0 … --series-6, --ink,
// --muted, --rule), so that they follow the reader's light or dark setting; every mark has a
// <title> that says its value. All text is escaped here.

inline constexpr int kSeriesColours = 7;  // Okabe & Ito's palette without yellow; then it repeats

enum class Unit { plain, percent };  // percent: values are fractions
enum class Stroke { solid, dashed };

struct Series {
  std::string name;
  std::vector<double> x, y;  // same length; NaN interrupts the line
  int colour = 0;
  Stroke stroke = Stroke::solid;
  std::vector<train::Interval> intervals{};  // of y, drawn as whiskers; none, or one per point
};

struct LineChart {
  std::string title;
  std::string x_title;  // "epoch"
  Unit unit = Unit::plain;
  std::vector<Series> series;
};
std::string line_chart(const LineChart& chart);

// A chart as a file by itself, with the page's style sheet inside.
std::string standalone(const std::string& chart);

struct Bar {
  double value;  // a fraction in [0, 1]
  std::optional<train::Interval> interval{};
  std::string tooltip{};
};
struct BarGroup {
  std::string label;
  std::vector<Bar> bars;  // one per series
};
struct BarChart {
  std::string title;
  std::vector<std::string> series;
  std::vector<BarGroup> groups;
};
std::string bar_chart(const BarChart& chart);  // horizontal, 0 to 100 %

struct HeatMap {
  std::string title;
  std::string row_title, column_title;
  std::vector<std::string> rows, columns;
  std::vector<std::vector<double>> shade;          // [rows][columns], 0 … 1
  std::vector<std::vector<std::string>> tooltips;  // [rows][columns]
};
std::string heat_map(const HeatMap& map);

// Round numbers (1, 2, 2.5 or 5 times a power of ten apart) that cover [low, high], about `wanted`
// of them; the first is <= low, the last >= high.
std::vector<double> ticks(double low, double high, int wanted);

}  // namespace moat::cli::report
