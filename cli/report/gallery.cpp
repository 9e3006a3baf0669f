#include "cli/report/gallery.h"

#include <algorithm>
#include <cmath>
#include <filesystem>

#include "cli/number_format.h"
#include "cli/report/html.h"
#include "data/png.h"
#include "engine/error.h"
#include "engine/io/file.h"
#include "engine/io/safetensors.h"

namespace moat::cli::report {

using engine::require;
using engine::Tensor;
using engine::text;

namespace {

constexpr int64_t kShown = 10;         // pictures in each of the two rows
constexpr int64_t kLargestSide = 512;  // pixels

struct Pictures {
  std::filesystem::path file;
  Tensor clean, adversarial;  // float32 [m, c, h, w] in [0, 1]
  std::vector<int64_t> labels;

  int64_t size() const { return clean.dim(0); }
  int64_t channels() const { return clean.dim(1); }
};

Pictures read_pictures(const std::filesystem::path& file) {
  const engine::SafeTensors content = engine::read_safetensors(file);
  const auto tensor = [&](const char* name, engine::Dtype dtype) {
    const auto found = content.tensors.find(name);
    require(found != content.tensors.end() && found->second.dtype() == dtype, [&] {
      return text(file.string(), ": must hold ", name, " as ", engine::name_of(dtype));
    });
    return found->second.contiguous();
  };
  const Tensor clean = tensor("images", engine::Dtype::f32),
               adversarial = tensor("adversarial", engine::Dtype::f32),
               labels = tensor("labels", engine::Dtype::i64);
  require(clean.rank() == 4 && adversarial.shape().str() == clean.shape().str() &&
              labels.size() == clean.dim(0),
          [&] {
            return text(file.string(),
                        ": images and adversarial must be [m, c, h, w] alike with m "
                        "labels, got ",
                        clean.shape().str(), ", ", adversarial.shape().str(), " and ",
                        labels.shape().str());
          });
  return {file, clean, adversarial, labels.to_vector<int64_t>()};
}

// A picture of one image; value(pixel number in [c, h, w]) in [0, 1].
template <class Value>
std::string png_uri(const Pictures& p, Value&& value) {
  const int64_t h = p.clean.dim(2), w = p.clean.dim(3), shown = p.channels() == 3 ? 3 : 1;
  std::vector<uint8_t> pixels(static_cast<size_t>(h * w * shown));
  for (int64_t c = 0; c < shown; ++c)
    for (int64_t i = 0; i < h * w; ++i) {
      const double v = value(c * h * w + i);
      pixels[static_cast<size_t>(i * shown + c)] =
          std::isnan(v) ? 0 : static_cast<uint8_t>(std::lround(std::clamp(v, 0.0, 1.0) * 255));
    }
  return data_uri("image/png", data::encode_png(static_cast<int>(w), static_cast<int>(h),
                                                static_cast<int>(shown), pixels));
}

std::string picture(const std::string& uri, const std::string& meaning) {
  return text("<img src=\"", uri, "\" alt=\"", escaped(meaning), "\" title=\"", escaped(meaning),
              "\">");
}

std::string class_name(const Evaluation& e, int64_t label) {
  const auto at = static_cast<size_t>(label);
  return label >= 0 && at < e.classes.size() ? e.classes[at].name : std::to_string(label);
}

// "3 → 8" or "3": what the model says before and after.
std::string change(const std::string& before, const std::string& after) {
  return before == after ? before : before + " → " + after;
}

std::string figure(const Evaluation& e, const Pictures& p, int64_t row, double radius) {
  const float* clean = p.clean.data_as<float>();
  const float* attacked = p.adversarial.data_as<float>();
  const int64_t first = row * (p.clean.size() / p.size());
  const std::string uris[] = {
      png_uri(p, [&](int64_t i) { return double{clean[first + i]}; }),
      png_uri(p, [&](int64_t i) { return double{attacked[first + i]}; }),
      png_uri(p, [&](int64_t i) {
        return 0.5 + 0.5 * (double{attacked[first + i]} - clean[first + i]) / radius;
      })};
  std::string out = "<figure><div class=\"triple\">" + picture(uris[0], "clean") +
                    picture(uris[1], "adversarial") + picture(uris[2], "difference") + "</div>";
  const std::string label = class_name(e, p.labels[static_cast<size_t>(row)]);
  out += "<figcaption><b>" + escaped(label) + "</b>";
  if (row < static_cast<int64_t>(e.samples.size())) {
    const SampleRow& s = e.samples[static_cast<size_t>(row)];
    const bool fooled = !s.fooled_by.empty();
    out += text(
        "<span class=\"", fooled ? "fooled" : "held", "\">",
        escaped(change(class_name(e, s.clean_prediction), class_name(e, s.adversarial_prediction))),
        fooled ? " ✗" : " ✓", "</span>");
    if (s.clean_route >= 0)
      out += "<span class=\"route\">expert " +
             escaped(change(std::to_string(s.clean_route), std::to_string(s.adversarial_route))) +
             "</span>";
  }
  return out + "</figcaption></figure>\n";
}

// What the scale of the difference pictures maps to black and white.
double difference_radius(const Evaluation& e, const Pictures& p) {
  const JsonView root(e.report, e.folder / "report.json");
  const auto threat = root.find("threat");
  if (threat && threat->str_or("norm", "") != "l2") {
    const double eps = threat->number_or("eps", 0);
    if (eps > 0) return eps;
  }
  const float* clean = p.clean.data_as<float>();
  const float* attacked = p.adversarial.data_as<float>();
  double largest = 0;
  for (int64_t i = 0; i < p.clean.size(); ++i)
    largest = std::max(largest, std::fabs(double{attacked[i]} - clean[i]));
  return largest > 0 ? largest : 1;
}

std::string row_of_figures(const Evaluation& e, const Pictures& p, double radius,
                           const std::vector<int64_t>& rows, const std::string& title) {
  if (rows.empty()) return {};
  std::string out = "<h4>" + escaped(title) + "</h4>\n<div class=\"gallery\">\n";
  for (int64_t row : rows) out += figure(e, p, row, radius);
  return out + "</div>\n";
}

std::string pictures_html(const Evaluation& e, const Pictures& p) {
  const bool drawable = (p.channels() == 1 || p.channels() == 3) && p.clean.size() > 0 &&
                        p.clean.dim(2) <= kLargestSide && p.clean.dim(3) <= kLargestSide;
  if (!drawable)
    return paragraph(text("The images are ", p.clean.shape().str(),
                          ": only gray and RGB images of up to ", kLargestSide,
                          " pixels a side are drawn."));
  require(e.samples.empty() || static_cast<int64_t>(e.samples.size()) >= p.size(), [&] {
    return text(p.file.string(), ": holds ", p.size(), " images, per_sample.csv only ",
                e.samples.size());
  });
  const double radius = difference_radius(e, p);
  std::vector<int64_t> first, fooled;
  for (int64_t row = 0; row < std::min(kShown, p.size()); ++row) first.push_back(row);
  const int64_t known = std::min(p.size(), static_cast<int64_t>(e.samples.size()));
  for (int64_t row = 0; row < known && static_cast<int64_t>(fooled.size()) < kShown; ++row) {
    const std::string& by = e.samples[static_cast<size_t>(row)].fooled_by;
    if (!by.empty() && by != "clean") fooled.push_back(row);
  }
  std::string out = paragraph(
      text("Each triple: clean, adversarial, difference. The difference is drawn around mid-gray "
           "and scaled ",
           brief(0.5 / radius), " times: a pixel changed by ", brief(radius),
           " is black or white. Below: the true class, what the model says (clean → adversarial; "
           "✓ withstood the protocol, ✗ did not)",
           e.experts ? " and the expert that served it." : "."),
      "note");
  out += row_of_figures(e, p, radius, first,
                        text("The first ", first.size(), " images, as they come"));
  if (!fooled.empty())
    out += row_of_figures(e, p, radius, fooled,
                          text("The first ", fooled.size(), " that the attack turned wrong"));
  return out;
}

}  // namespace

std::string gallery(const Evaluation& e) {
  const std::filesystem::path tensors = e.folder / "adversarial.safetensors",
                              png = e.folder / "gallery.png";
  if (std::filesystem::exists(tensors)) return pictures_html(e, read_pictures(tensors));
  if (std::filesystem::exists(png)) {
    const std::string file = engine::read_file(png, int64_t{32} << 20);
    const std::vector<uint8_t> bytes(file.begin(), file.end());
    try {
      data::decode_png(bytes);  // only pictures go into the page
    } catch (const engine::Error& error) {
      throw engine::Error(text(png.string(), ": ", error.what()));
    }
    return paragraph("From top to bottom: clean, adversarial, difference around mid-gray.",
                     "note") +
           "<img class=\"sheet\" alt=\"gallery\" src=\"" + data_uri("image/png", bytes) + "\">\n";
  }
  return paragraph("This evaluation kept no pictures.", "missing");
}

}  // namespace moat::cli::report
