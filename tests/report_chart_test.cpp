#include <algorithm>
#include <catch2/catch.hpp>
#include <cmath>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "cli/report/html.h"
#include "cli/report/svg.h"
#include "engine/error.h"

namespace moat::cli::report {

namespace {

size_t count_of(const std::string& text, const std::string& part) {
  size_t n = 0;
  for (size_t at = 0; (at = text.find(part, at)) != std::string::npos; at += part.size()) ++n;
  return n;
}

}  // namespace

TEST_CASE("html: text from anywhere stays text") {
  CHECK(escaped("<a href=\"x\" id='y'>&</a>") ==
        "&lt;a href=&quot;x&quot; id=&#39;y&#39;&gt;&amp;&lt;/a&gt;");
  CHECK(escaped("größer\x01\xff") == "größer\xef\xbf\xbd\xef\xbf\xbd");
}

TEST_CASE("html: data URIs hold the bytes in base64") {  // RFC 4648, section 10
  const auto base64 = [](const std::string& bytes) {
    const std::vector<uint8_t> raw(bytes.begin(), bytes.end());
    return data_uri("x", raw).substr(std::string("data:x;base64,").size());
  };
  CHECK(base64("") == "");
  CHECK(base64("f") == "Zg==");
  CHECK(base64("fo") == "Zm8=");
  CHECK(base64("foobar") == "Zm9vYmFy");
  CHECK(base64("\xff\xfe") == "//4=");
}

TEST_CASE("html: inner objects become dotted keys") {
  const auto object =
      nlohmann::ordered_json::parse(R"({"b":{"x":1,"y":{"z":[1,2]}},"a":"t<","c":{}})");
  CHECK(json_table(object) ==
        "<dl class=\"facts\">\n<div><dt>b.x</dt><dd>1</dd></div>\n"
        "<div><dt>b.y.z</dt><dd>[1,2]</dd></div>\n<div><dt>a</dt><dd>t&lt;</dd></div>\n"
        "<div><dt>c</dt><dd>{}</dd></div>\n</dl>\n");
}

TEST_CASE("ticks are round, cover the range and are about as many as wanted") {
  CHECK(ticks(0, 100, 5) == std::vector<double>{0, 20, 40, 60, 80, 100});
  CHECK(ticks(1, 20, 6) == std::vector<double>{0, 5, 10, 15, 20});
  for (double low : {-3.7, 0.0, 0.123, 1e-7, 52.0, 1e9})
    for (double span : {0.0, 1e-6, 0.31, 7.0, 1e5}) {
      const std::vector<double> t = ticks(low, low + span, 5);
      INFO(low << " + " << span);
      CHECK(t.front() <= low + 1e-9 * std::fabs(low));
      CHECK(t.back() >= low + span - 1e-9 * std::fabs(low + span));
      CHECK(t.size() >= 2);
      CHECK(t.size() <= 8);
    }
  CHECK_THROWS_AS(ticks(0, std::nan(""), 5), engine::Error);
}

TEST_CASE("line chart: a missing value interrupts the line, each value has a tooltip") {
  const LineChart chart{"Loss",
                        "epoch",
                        Unit::percent,
                        {{"a & b", {1, 2, 3, 4}, {.5, std::nan(""), .7, .8}, 0, Stroke::dashed}}};
  const std::string svg = line_chart(chart);
  const size_t path = svg.find(" d=\"");
  REQUIRE(path != std::string::npos);
  const std::string drawn = svg.substr(path + 4, svg.find('"', path + 4) - path - 4);
  CHECK(count_of(drawn, "M") == 2);
  CHECK(count_of(drawn, "L") == 1);
  CHECK(count_of(svg, "<title>") == 3);
  CHECK(svg.find("<title>a &amp; b, epoch 3: 70.0 %</title>") != std::string::npos);
  CHECK(svg.find("nan") == std::string::npos);
}

TEST_CASE("line chart: one point, a constant and nothing at all") {
  const auto chart = [](std::vector<double> x, std::vector<double> y) {
    return line_chart({"t", "epoch", Unit::plain, {{"s", std::move(x), std::move(y)}}});
  };
  CHECK(chart({}, {}).empty());
  CHECK(chart({1}, {std::nan("")}).empty());
  CHECK(count_of(chart({1}, {3}), "<title>") == 1);
  for (const std::string& svg :
       {chart({1}, {3}), chart({1, 2}, {0, 0}), chart({1, 2}, {1e300, 1})}) {
    CHECK(svg.find("nan") == std::string::npos);
    CHECK(svg.find("inf") == std::string::npos);
  }
  CHECK_THROWS_AS(chart({1, 2}, {1}), engine::Error);
}

TEST_CASE("line chart: intervals are whiskers, and fractions along x have ticks") {
  LineChart chart{"Accuracy", "alpha", Unit::percent, {}};
  chart.series.push_back(
      {"clean", {.5, .75, 1}, {.9, .8, .7}, 0, Stroke::solid, {{.8, .95}, {.7, .9}, {.6, .8}}});
  const std::string svg = line_chart(chart);
  const size_t whiskers = svg.find("class=\"whisker\"");
  REQUIRE(whiskers != svg.npos);
  CHECK(count_of(svg.substr(whiskers, svg.find("/>", whiskers) - whiskers), "h6") == 6);
  CHECK(count_of(svg, ">0.6</text>") == 1);
  LineChart two = chart;  // whiskers beside each other, each in its curve's colour
  two.series.push_back(two.series[0]);
  two.series[1].colour = 1;
  const std::string both = line_chart(two);
  for (const char* colour : {"var(--series-0)", "var(--series-1)"})
    CHECK(count_of(both, "class=\"whisker\" style=\"stroke:" + std::string(colour)) == 1);
  const auto stems = [&](const std::string& drawn) {  // where the first one of each series stands
    std::vector<double> x;
    for (size_t at = drawn.find("whisker"); at != drawn.npos; at = drawn.find("whisker", at + 1))
      x.push_back(std::stod(drawn.substr(drawn.find("d=\"M", at) + 4)));
    return x;
  };
  REQUIRE(stems(both).size() == 2);
  CHECK(stems(both)[1] - stems(both)[0] == Approx(6));
  CHECK(stems(svg)[0] == Approx(stems(both)[0] + 3));
  chart.series[0].x = {1, 2, 3};
  CHECK(count_of(line_chart(chart), ">2.5</text>") == 0);
  chart.series[0].intervals.pop_back();
  CHECK_THROWS_AS(line_chart(chart), engine::Error);

  const std::string file = standalone(svg);
  CHECK(file.starts_with("<svg xmlns=\"http://www.w3.org/2000/svg\" class=\"chart\""));
  CHECK(count_of(file, "<svg ") == 1);
  CHECK(count_of(file, "--series-0: #") == 2);
  CHECK(file.ends_with("</svg>\n"));
}

TEST_CASE("bar chart: interval, value and what was not measured") {
  BarChart chart{"Accuracy", {"clean", "robust"}, {}};
  chart.groups.push_back({"<run>", {{.9, train::Interval{.85, .93}, " of 100"}, {std::nan("")}}});
  const std::string svg = bar_chart(chart);
  CHECK(svg.find("<title>&lt;run&gt;, clean: 90.0 % of 100</title>") != std::string::npos);
  CHECK(svg.find("not measured") != std::string::npos);
  CHECK(count_of(svg, "class=\"whisker\"") == 1);
  chart.groups[0].bars.pop_back();
  CHECK_THROWS_AS(bar_chart(chart), engine::Error);
}

TEST_CASE("heat map: a cell per row and column") {
  const HeatMap map{"Use",
                    "class",
                    "expert",
                    {"0", "1"},
                    {"0", "1", "2"},
                    {{1, 0, 0}, {.25, .75, std::nan("")}},
                    {{"a", "b", "c"}, {"d", "e", "f"}}};
  const std::string svg = heat_map(map);
  CHECK(count_of(svg, "class=\"cell\"") == 6);
  CHECK(svg.find("fill-opacity:1.000") != std::string::npos);
  CHECK(svg.find("<title>f</title>") != std::string::npos);
  HeatMap ragged = map;
  ragged.shade[1].pop_back();
  CHECK_THROWS_AS(heat_map(ragged), engine::Error);
}

TEST_CASE("svg: a chart as a file of its own") {
  const std::string chart = line_chart({"a < b", "x", Unit::plain, {{"s", {0, 1}, {1, 2}, 0}}});
  const std::string file = standalone(chart);
  CHECK(file.starts_with("<svg xmlns=\"http://www.w3.org/2000/svg\" class=\"chart\""));
  CHECK(count_of(file, "<svg ") == 1);
  CHECK(count_of(file, "<style>") == 1);
  CHECK(file.find("--series-0:") != std::string::npos);
  CHECK(file.ends_with("</svg>\n") == chart.ends_with("</svg>\n"));
  CHECK_THAT(file, Catch::Matchers::Contains("stroke:#0072b2; stroke:var(--series-0)"));
  CHECK_THAT(file, Catch::Matchers::Contains("fill: #1d2126; fill: var(--ink)"));
  CHECK_THAT(file, Catch::Matchers::Contains("color: #666d76; color: var(--muted)"));
  CHECK_THROWS_WITH(standalone("<p>"), Catch::Matchers::Contains("must be an <svg>"));
}

}  // namespace moat::cli::report
