#pragma once

#include <functional>
#include <string>
#include <vector>

#include "data/image_set.h"
#include "models/classifier.h"
#include "train/certify/lipschitz_constants.h"
#include "train/saved_state.h"

namespace moat::train {

// What is proven of one image: no point of [0, 1] nearer than a radius (L∞) changes the prediction.
struct ImageCertificate {
  int prediction = -1;
  int route = -1;  // of a routed model
  // The largest of the three below: each is sound by itself. 0: nothing is proven.
  double radius = 0;
  double interval = 0;      // by interval bounds of every reachable expert, to half a percent
  double affine = 0;        // by affine forms in their place, of up to kMostPixels
  double lipschitz = 0;     // by Lipschitz constants on all images
  double route_radius = 0;  // the hard route stays; +inf where there is none to leave

  double certified_for(int label) const { return prediction == label ? radius : -1; }
};

// How a model's route radius is known.
enum class RouteRadius { none, exact, bounded };
const char* name_of(RouteRadius kind);

struct Certification {
  std::vector<ImageCertificate> images;  // in the set's order
  RouteRadius route_radius = RouteRadius::none;
  std::vector<LipschitzConstant> constants;
  double local_eps = 0;        // radius of the balls of the local constants
  int64_t sampled_images = 0;  // at which these and the gradients were measured
  // Images that are right under an attack at each eps of a table, as far as it was run
  // (attacked.h).
  std::vector<int64_t> resisted;

  // Images that are right, and proven to stay right at distance eps.
  int64_t certified(const data::ImageSet& set, double eps) const;
};

struct CertifySettings {
  int batch = 32;
  double eps = 8.0 / 255;   // of the balls on which local constants are computed
  int sampled_images = 64;  // at which gradients are measured, beside the constants' bounds
  std::function<void(int64_t images_done)> progress = {};
  std::function<bool()> stop_requested = {};  // asked after each batch; then throws
  // Goes on from what it holds, to the same bits; kept every minute, when asked to stop, and when
  // all images are proven. nullptr: nothing is kept.
  SavedState* state = nullptr;
};

// Radii are searched from kSmallestRadius to 1 (from there on every image is in the box). Bounds
// are computed on the CPU. Throws UsageError for a model without bounds.
inline constexpr double kSmallestRadius = 1e-6;
// A pass with affine forms costs as much as one of so many images as an image has pixels.
inline constexpr int64_t kMostPixels = 1024;
Certification certify(const models::Classifier& model, const data::ImageSet& set,
                      const CertifySettings& settings = {});

}  // namespace moat::train
