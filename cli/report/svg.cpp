#include "cli/report/svg.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <regex>

#include "cli/display_width.h"
#include "cli/number_format.h"
#include "cli/report/html.h"
#include "cli/report/style.h"
#include "engine/error.h"

namespace moat::cli::report {

using engine::require;
using engine::text;

namespace {

constexpr double kCharacter = 6.2;  // mean width of a character at the charts' 11 px
constexpr double kWidth = 510;      // half of the page
constexpr double kTitleHeight = 22, kLegendHeight = 17;

// Coordinates with one decimal: a tenth of a pixel.
std::string at(double pixels) { return fixed(pixels, 1); }

std::string colour(int index) { return text("var(--series-", index % kSeriesColours, ")"); }

double width_of(const std::string& label) { return kCharacter * display_width(label); }

std::string words(double x, double y, const std::string& content, const char* style_class,
                  const char* anchor = "start") {
  return text("<text x=\"", at(x), "\" y=\"", at(y), "\" class=\"", style_class,
              "\" text-anchor=\"", anchor, "\">", escaped(content), "</text>\n");
}

std::string rule(double x1, double y1, double x2, double y2, const char* style_class) {
  return text("<line x1=\"", at(x1), "\" y1=\"", at(y1), "\" x2=\"", at(x2), "\" y2=\"", at(y2),
              "\" class=\"", style_class, "\"/>\n");
}

// At the sides there is room for fonts that are wider than ours.
std::string opened(double width, double height, const std::string& title) {
  constexpr double kSide = 8;
  return text("<svg class=\"chart\" role=\"img\" viewBox=\"", at(-kSide), " 0 ",
              at(width + 2 * kSide), " ", at(height),
              "\" style=\"max-width:", at(width + 2 * kSide), "px\" aria-label=\"", escaped(title),
              "\">\n", words(0, 12, title, "title"));
}

std::string value_text(double value, Unit unit) {
  return unit == Unit::percent ? fixed(100 * value, 1) + " %" : brief(value);
}

// Enough decimals to tell neighbouring ticks apart.
std::string tick_text(double value, double step, Unit unit) {
  const double scale = unit == Unit::percent ? 100 : 1;
  const double v = value * scale, s = step * scale;
  if (std::fabs(v) >= 1e5 || s < 1e-4) return brief(v);
  int decimals = 0;
  for (double rest = s; decimals < 4 && std::fabs(rest - std::round(rest)) > 1e-6; ++decimals)
    rest *= 10;
  return fixed(v, decimals);
}

enum class Sample { line, dashed_line, block };

struct LegendEntry {
  std::string name;
  int colour;
  Sample sample;
};

std::string sample_of(const LegendEntry& entry, double x, double y, double width) {
  if (entry.sample == Sample::block)
    return text("<rect x=\"", at(x), "\" y=\"", at(y - 9), "\" width=\"", at(width),
                "\" height=\"10\" rx=\"1.5\" style=\"fill:", colour(entry.colour), "\"/>\n");
  return text("<line x1=\"", at(x), "\" y1=\"", at(y - 4), "\" x2=\"", at(x + width), "\" y2=\"",
              at(y - 4), "\" class=\"curve", entry.sample == Sample::dashed_line ? " dashed" : "",
              "\" style=\"stroke:", colour(entry.colour), "\"/>\n");
}

// Samples with names, wrapped to the width; `height` receives what they took.
std::string legend(const std::vector<LegendEntry>& entries, double* height) {
  constexpr double kGap = 10;
  double x = 0, y = kTitleHeight + 8;
  std::string out;
  for (const LegendEntry& entry : entries) {
    const double sample = entry.sample == Sample::block ? 10 : 18;
    const double needed = sample + 6 + width_of(entry.name);
    if (x > 0 && x + needed > kWidth) {
      x = 0;
      y += kLegendHeight;
    }
    out += sample_of(entry, x, y, sample) + words(x + sample + 6, y, entry.name, "legend");
    x += needed + kGap;
  }
  *height = entries.empty() ? 0 : y - kTitleHeight + 8;
  return out;
}

struct Extent {
  double low = std::numeric_limits<double>::infinity();
  double high = -std::numeric_limits<double>::infinity();
  void include(double v) {
    if (!std::isfinite(v)) return;
    low = std::min(low, v);
    high = std::max(high, v);
  }
  bool empty() const { return low > high; }
};

// One series as a path that is interrupted where there is no value, with a mark per point.
// Its whiskers stand `aside` pixels from there, so that those of two series do not cover each
// other.
std::string curve(const Series& s, Unit unit, const std::string& x_title, double aside, auto&& px,
                  auto&& py) {
  std::string path, marks, whiskers;
  bool pen_down = false;
  const char* dot = s.x.size() <= 60 ? "dot" : "dot hidden";
  for (size_t i = 0; i < s.x.size(); ++i) {
    if (!std::isfinite(s.x[i]) || !std::isfinite(s.y[i])) {
      pen_down = false;
      continue;
    }
    const std::string x = at(px(s.x[i])), y = at(py(s.y[i]));
    path += (pen_down ? "L" : "M") + x + " " + y;
    pen_down = true;
    if (!s.intervals.empty()) {
      const std::string low = at(py(s.intervals[i].low)), high = at(py(s.intervals[i].high)),
                        middle = at(px(s.x[i]) + aside), left = at(px(s.x[i]) + aside - 3);
      whiskers +=
          text("M", middle, " ", low, "V", high, "M", left, " ", low, "h6M", left, " ", high, "h6");
    }
    marks += text("<g class=\"mark\"><circle class=\"", dot, "\" cx=\"", x, "\" cy=\"", y,
                  "\" r=\"2\"/><circle class=\"reach\" cx=\"", x, "\" cy=\"", y,
                  "\" r=\"7\"/><title>", escaped(s.name), ", ", escaped(x_title), " ",
                  brief(s.x[i]), ": ", value_text(s.y[i], unit), "</title></g>\n");
  }
  return text("<path class=\"curve", s.stroke == Stroke::dashed ? " dashed" : "",
              "\" style=\"stroke:", colour(s.colour), "\" d=\"", path, "\"/>\n",
              whiskers.empty() ? ""
                               : text("<path class=\"whisker\" style=\"stroke:", colour(s.colour),
                                      "\" d=\"", whiskers, "\"/>\n"),
              "<g style=\"fill:", colour(s.colour), "\">", marks, "</g>\n");
}

}  // namespace

namespace {

// Before each declaration with one of the page's variables the same with its light value: programs
// that know no variables draw that one, browsers the second.
std::string with_plain_colours(const std::string& drawn) {
  static const std::regex variable("--([a-z0-9-]+): (#[0-9a-f]+);"),
      declaration("([a-z-]+: ?[^;{}\"]*)var\\(--([a-z0-9-]+)\\)");
  const std::string style = kStyle;
  std::map<std::string, std::string> light;  // the first of each name
  for (std::sregex_iterator at(style.begin(), style.end(), variable), end; at != end; ++at)
    light.emplace((*at)[1], (*at)[2]);
  std::string out;
  auto from = drawn.begin();
  for (std::sregex_iterator at(drawn.begin(), drawn.end(), declaration), end; at != end; ++at) {
    out.append(from, (*at)[0].first).append((*at)[1]).append(light.at((*at)[2])).append("; ");
    out.append((*at)[0]);
    from = (*at)[0].second;
  }
  return out.append(from, drawn.end());
}

}  // namespace

std::string standalone(const std::string& chart) {
  const size_t inside = chart.find('>');
  require(chart.starts_with("<svg ") && inside != std::string::npos,
          "standalone: a chart must be an <svg>");
  return with_plain_colours(
      text("<svg xmlns=\"http://www.w3.org/2000/svg\" ", chart.substr(5, inside - 5),
           "><style><![CDATA[", kStyle,
           "svg { background: var(--page); font-family: system-ui, sans-serif; }]]></style>",
           chart.substr(inside + 1)));
}

std::vector<double> ticks(double low, double high, int wanted) {
  require(std::isfinite(low) && std::isfinite(high) && low <= high && wanted >= 1,
          "ticks: low <= high must be finite");
  if (high - low < 1e-12 * std::max(std::fabs(low), std::fabs(high)) || low == high) {
    const double around = low == 0 ? 1 : std::fabs(low) / 2;
    low -= around;
    high += around;
  }
  const double rough = (high - low) / wanted;
  const double power = std::pow(10.0, std::floor(std::log10(rough)));
  double step = 10 * power;
  for (double factor : {1.0, 2.0, 2.5, 5.0})
    if (rough <= factor * power * (1 + 1e-9)) {
      step = factor * power;
      break;
    }
  std::vector<double> out;
  const double first = std::floor(low / step + 1e-9), last = std::ceil(high / step - 1e-9);
  for (double i = first; i <= last; ++i) out.push_back(i * step);
  return out;
}

std::string line_chart(const LineChart& chart) {
  constexpr double kPlotHeight = 176, kBottom = 34, kRight = 12;
  Extent x_extent, y_extent;
  bool is_counted = true;  // along x: epochs have no halves
  std::vector<LegendEntry> entries;
  for (const Series& s : chart.series) {
    require(s.x.size() == s.y.size() && (s.intervals.empty() || s.intervals.size() == s.x.size()),
            "line_chart: x, y and intervals of a series must have the same length");
    for (size_t i = 0; i < s.x.size(); ++i) {
      if (!std::isfinite(s.y[i])) continue;
      x_extent.include(s.x[i]);
      y_extent.include(s.y[i]);
      is_counted = is_counted && s.x[i] == std::floor(s.x[i]);
      if (s.intervals.empty()) continue;
      y_extent.include(s.intervals[i].low);
      y_extent.include(s.intervals[i].high);
    }
    entries.push_back(
        {s.name, s.colour, s.stroke == Stroke::dashed ? Sample::dashed_line : Sample::line});
  }
  if (x_extent.empty()) return {};

  std::vector<double> y_ticks = ticks(y_extent.low, y_extent.high, 4);
  if (chart.unit == Unit::percent)  // no room above 100 % or below 0 %
    std::erase_if(y_ticks, [](double v) { return v < -1e-9 || v > 1 + 1e-9; });
  const double y_step = y_ticks.size() > 1 ? y_ticks[1] - y_ticks[0] : 1;
  const double y_low = std::min(y_ticks.front(), y_extent.low);
  const double y_high = std::max(y_ticks.back(), y_extent.high);
  double left = 0;
  for (double v : y_ticks) left = std::max(left, width_of(tick_text(v, y_step, chart.unit)));
  left += 8;

  double legend_height = 0;
  const std::string names = legend(entries, &legend_height);
  const double top = kTitleHeight + legend_height + 4, bottom = top + kPlotHeight;
  const double x_span = std::max(x_extent.high - x_extent.low, 1e-9);
  const auto px = [&](double x) {
    if (x_extent.low == x_extent.high) return (left + kWidth - kRight) / 2;
    return left + (x - x_extent.low) / x_span * (kWidth - kRight - left);
  };
  const double y_span = std::max(y_high - y_low, 1e-300);
  const auto py = [&](double y) { return bottom - (y - y_low) / y_span * kPlotHeight; };

  const std::string unit = chart.unit == Unit::percent ? ", %" : "";
  std::string out = opened(kWidth, bottom + kBottom, chart.title + unit) + names;
  for (double v : y_ticks) {
    out += rule(left, py(v), kWidth - kRight, py(v), "grid");
    out += words(left - 8, py(v) + 3.5, tick_text(v, y_step, chart.unit), "tick", "end");
  }
  out += rule(left, bottom, kWidth - kRight, bottom, "axis");
  for (double v : ticks(x_extent.low, x_extent.high, 6)) {
    if (v < x_extent.low - 1e-9 || v > x_extent.high + 1e-9) continue;
    if (is_counted && v != std::floor(v)) continue;
    out += rule(px(v), bottom, px(v), bottom + 4, "axis");
    out += words(px(v), bottom + 16, brief(v), "tick", "middle");
  }
  out += words(kWidth - kRight, bottom + 30, chart.x_title, "tick", "end");
  constexpr double kApart = 6;  // whiskers of neighbouring series, in pixels
  const double middle = static_cast<double>(chart.series.size() - 1) / 2;
  for (size_t i = 0; i < chart.series.size(); ++i)
    out += curve(chart.series[i], chart.unit, chart.x_title,
                 kApart * (static_cast<double>(i) - middle), px, py);
  return out + "</svg>\n";
}

std::string bar_chart(const BarChart& chart) {
  constexpr double kBar = 11, kBarGap = 3, kGroupGap = 12, kValue = 44;
  if (chart.groups.empty()) return {};
  double left = 0;
  for (const BarGroup& group : chart.groups) left = std::max(left, width_of(group.label));
  left = std::min(left, 200.0) + 12;
  const int label_columns = static_cast<int>(std::lround((left - 12) / kCharacter));

  std::vector<LegendEntry> entries;
  for (size_t i = 0; i < chart.series.size(); ++i)
    entries.push_back({chart.series[i], static_cast<int>(i), Sample::block});
  double legend_height = 0;
  const std::string names = legend(entries, &legend_height);
  const double per_bar = kBar + kBarGap;
  const double group_height = per_bar * static_cast<double>(chart.series.size()) + kGroupGap;
  const double top = kTitleHeight + legend_height + 4;
  const double bottom = top + group_height * static_cast<double>(chart.groups.size());
  const auto px = [&](double fraction) { return left + fraction * (kWidth - kValue - left); };

  std::string out = opened(kWidth, bottom + 22, chart.title) + names;
  for (int hundredths : {0, 20, 40, 60, 80, 100}) {
    const double x = px(hundredths / 100.0);
    out += rule(x, top, x, bottom, hundredths == 0 ? "axis" : "grid");
    out += words(x, bottom + 15, text(hundredths), "tick", "middle");
  }
  out += words(kWidth, bottom + 15, "%", "tick", "end");
  double y = top + kGroupGap / 2;
  for (const BarGroup& group : chart.groups) {
    require(group.bars.size() == chart.series.size(), "bar_chart: one bar per series and group");
    const double middle = y + per_bar * static_cast<double>(group.bars.size()) / 2;
    out +=
        words(left - 10, middle + 2, fitted(printable(group.label), label_columns), "label", "end");
    for (size_t i = 0; i < group.bars.size(); ++i) {
      const Bar& bar = group.bars[i];
      const double row = y + per_bar * static_cast<double>(i);
      if (std::isnan(bar.value)) {
        out += words(left + 6, row + kBar - 2, "not measured", "tick");
        continue;
      }
      const double end = px(std::clamp(bar.value, 0.0, 1.0));
      out += text("<g><rect x=\"", at(left), "\" y=\"", at(row), "\" width=\"", at(end - left),
                  "\" height=\"", at(kBar),
                  "\" rx=\"1.5\" style=\"fill:", colour(static_cast<int>(i)), "\"/>");
      double value_at = end;
      if (bar.interval) {
        const double low = px(bar.interval->low), high = px(bar.interval->high);
        const double centre = row + kBar / 2;
        out += text("<path class=\"whisker\" d=\"M", at(low), " ", at(centre), "H", at(high), "M",
                    at(low), " ", at(centre - 3), "v6M", at(high), " ", at(centre - 3), "v6\"/>");
        value_at = std::max(value_at, high);
      }
      out += text("<title>", escaped(group.label), ", ", escaped(chart.series[i]), ": ",
                  value_text(bar.value, Unit::percent), escaped(bar.tooltip), "</title></g>\n");
      out += words(value_at + 6, row + kBar - 2, fixed(100 * bar.value, 1), "legend");
    }
    y += group_height;
  }
  return out + "</svg>\n";
}

std::string heat_map(const HeatMap& map) {
  constexpr double kCellHeight = 21, kGap = 2;
  if (map.rows.empty() || map.columns.empty()) return {};
  require(map.shade.size() == map.rows.size() && map.tooltips.size() == map.rows.size(),
          "heat_map: one list of values and tooltips per row");
  double left = width_of(map.row_title);
  for (const std::string& row : map.rows) left = std::max(left, width_of(row));
  left = std::min(left, 130.0) + 12;
  const int label_columns = static_cast<int>(std::lround((left - 12) / kCharacter));
  const double cells = static_cast<double>(map.columns.size());
  const double cell = std::clamp(280 / cells, 18.0, 64.0);
  const double top = kTitleHeight + 24, width = std::max(left + cells * cell, width_of(map.title));
  const double height = top + static_cast<double>(map.rows.size()) * kCellHeight + 4;

  std::string out = opened(width, height, map.title);
  out += words(left - 10, top - 7, map.row_title, "tick", "end");
  for (size_t j = 0; j < map.columns.size(); ++j) {
    const std::string name = cell >= 60 ? map.column_title + " " + map.columns[j] : map.columns[j];
    out += words(left + (static_cast<double>(j) + 0.5) * cell, top - 7, name, "tick", "middle");
  }
  for (size_t i = 0; i < map.rows.size(); ++i) {
    require(
        map.shade[i].size() == map.columns.size() && map.tooltips[i].size() == map.columns.size(),
        "heat_map: one value and tooltip per column");
    const double y = top + static_cast<double>(i) * kCellHeight;
    out += words(left - 10, y + 14, fitted(printable(map.rows[i]), label_columns), "label", "end");
    for (size_t j = 0; j < map.columns.size(); ++j) {
      const double x = left + static_cast<double>(j) * cell, v = map.shade[i][j];
      const double shade = std::isnan(v) ? 0 : std::clamp(v, 0.0, 1.0);
      out += text("<g><rect class=\"cell\" x=\"", at(x), "\" y=\"", at(y), "\" width=\"",
                  at(cell - kGap), "\" height=\"", at(kCellHeight - kGap),
                  "\" rx=\"2\" style=\"fill-opacity:", fixed(0.06 + 0.94 * shade, 3), "\"/>");
      if (cell >= 28)
        out += text("<text x=\"", at(x + (cell - kGap) / 2), "\" y=\"", at(y + 13.5),
                    "\" text-anchor=\"middle\" class=\"", shade > 0.5 ? "on-cell" : "in-cell",
                    "\">", fixed(100 * v, 0), "</text>");
      out += text("<title>", escaped(map.tooltips[i][j]), "</title></g>\n");
    }
  }
  return out + "</svg>\n";
}

}  // namespace moat::cli::report
