#include "cli/table.h"

#include <catch2/catch.hpp>

#include "cli/display_width.h"
#include "engine/error.h"

namespace moat::cli {

TEST_CASE("table: header, rule, numbers to the right") {
  Table table({{"run"}, {"SA %", Align::right}, {"method"}});
  table.row({"digits-at", "99.2", "AT"});
  table.row({"Modell größer", "–", ""});
  CHECK(table.str() ==
        "run            SA %  method\n"
        "─────────────  ────  ──────\n"
        "digits-at      99.2  AT\n"
        "Modell größer     –\n");
}

TEST_CASE("table: every line of a wide-character table has the same width") {
  Table table({{"名前"}, {"n", Align::right}});
  table.row({"e\xcc\x81", "1"});
  table.row({"漢字🙂", "22"});
  const std::string text = table.str();
  for (size_t from = 0, to; (to = text.find('\n', from)) != std::string::npos; from = to + 1)
    CHECK(display_width(text.substr(from, to - from)) == 10);
}

TEST_CASE("table: control characters and broken UTF-8 become visible") {
  Table table({{"x"}});
  table.row({"a\x1b[31m\xc3"});
  CHECK(table.str().find('\x1b') == std::string::npos);
  CHECK(printable("\xff") == "\xef\xbf\xbd");
  CHECK(printable("\xed\xa0\x80") == "\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd");  // a surrogate
  CHECK(printable("\xc0\xaf") == "\xef\xbf\xbd\xef\xbf\xbd");                  // overlong
  CHECK(printable("a\xe2\x80\xae"
                  "b") ==
        "a\xef\xbf\xbd"
        "b");  // right-to-left override
}

TEST_CASE("table: a row of the wrong length is refused") {
  Table table({{"x"}, {"y"}});
  CHECK_THROWS_WITH(table.row({"1"}), "table: a row needs 2 cells, got 1");
}

TEST_CASE("fitted cuts at characters") {
  CHECK(fitted("größer", 6) == "größer");
  CHECK(fitted("größer", 5) == "größ…");
  CHECK(fitted("漢字", 3) == "漢…");
  CHECK(fitted("abc", 0).empty());
}

}  // namespace moat::cli
