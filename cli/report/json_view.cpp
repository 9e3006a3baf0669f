#include "cli/report/json_view.h"

#include <cmath>

#include "cli/display_width.h"
#include "engine/error.h"
#include "engine/io/file.h"
#include "engine/io/json.h"

namespace moat::cli::report {

using engine::Error;
using engine::text;

Json read_json(const std::filesystem::path& file) {
  constexpr int64_t kMost = int64_t{64} << 20;
  return engine::parse_json<Json>(engine::read_file(file, kMost), file.string());
}

void JsonView::fail(const std::string& must_be) const {
  const std::string got = value_->dump(-1, ' ', false, Json::error_handler_t::replace);
  throw Error(printable(text(file_, ": ", key_.empty() ? "the document" : key_, " must be ",
                             must_be, ", got ", fitted(got, 40))));
}

JsonView JsonView::at(const std::string& key) const {
  auto found = find(key);
  if (!found) {
    const std::string name = key_.empty() ? key : key_ + "." + key;
    throw Error(printable(text(file_, ": ", name, " is missing")));
  }
  return *found;
}

std::optional<JsonView> JsonView::find(const std::string& key) const {
  if (!value_->is_object()) fail("an object");
  const auto found = value_->find(key);
  if (found == value_->end() || found->is_null()) return std::nullopt;
  return JsonView(*found, file_, key_.empty() ? key : key_ + "." + key);
}

double JsonView::number() const {
  if (!value_->is_number() || !std::isfinite(value_->get<double>())) fail("a number");
  return value_->get<double>();
}

double JsonView::fraction() const {
  if (!value_->is_number() || !(value_->get<double>() >= 0 && value_->get<double>() <= 1))
    fail("a fraction from 0 to 1");
  return value_->get<double>();
}

int64_t JsonView::count() const {
  constexpr double kLargest = 9e15;  // exact in a double
  if (!value_->is_number_integer() || value_->get<double>() < 0 || value_->get<double>() > kLargest)
    fail("a whole number from 0");
  return value_->get<int64_t>();
}

std::string JsonView::str() const {
  if (value_->is_string()) return value_->get<std::string>();
  if (!value_->is_number()) fail("text");
  return value_->dump();
}

std::vector<JsonView> JsonView::items() const {
  if (!value_->is_array()) fail("a list");
  std::vector<JsonView> out;
  for (size_t i = 0; i < value_->size(); ++i)
    out.emplace_back((*value_)[i], file_, text(key_, "[", i, "]"));
  return out;
}

std::vector<std::pair<std::string, JsonView>> JsonView::members() const {
  if (!value_->is_object()) fail("an object");
  std::vector<std::pair<std::string, JsonView>> out;
  for (const auto& [name, value] : value_->items())
    out.emplace_back(name, JsonView(value, file_, key_.empty() ? name : key_ + "." + name));
  return out;
}

double JsonView::number_or(const std::string& key, double absent) const {
  const auto found = find(key);
  return found ? found->number() : absent;
}

std::string JsonView::str_or(const std::string& key, const std::string& absent) const {
  const auto found = find(key);
  return found ? found->str() : absent;
}

}  // namespace moat::cli::report
