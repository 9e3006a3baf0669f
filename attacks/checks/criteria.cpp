#include <algorithm>

#include "attacks/checks/check.h"
#include "engine/error.h"

namespace moat::attacks {

namespace {

constexpr double kNever = 1e300;  // warns at most

// The numbers are those of AutoAttack (G1, G2, G3, G20), of "Indicators of attack failure" (Pintor
// et al. 2022; G11, G12, G13) and of the checklist of Carlini et al. 2019 (G14 … G19); the second
// limits, and those of M1 … M16, are ours.
constexpr Criterion kCriteria[] = {
    {"G1", "the forward pass is deterministic", 1e-4, 1e-4,
     "largest difference between five passes over the same images, of logits of length 1",
     "evaluate a randomised model over its randomness (EOT)"},
    {"G2", "a prediction does not depend on the batch", 1e-4, 1e-3,
     "largest relative difference of logits between batches of 1, of 7, backwards and padded; 1 "
     "where a class or a route changes",
     "batch norm in evaluation mode, no statistics and no capacity over the batch"},
    {"G3", "the outputs are logits", 0, 0,
     "share of images whose outputs are probabilities; their gradient vanishes where the model is "
     "sure",
     "remove the softmax from the model's end"},
    {"G4", "pixels in [0, 1], finite outputs", 0, 0,
     "share of images outside of [0, 1] or with outputs that are not finite, black and white "
     "images included",
     "keep the normaliser inside of the model; look for overflow"},
    {"G5", "the model is untouched", 0, 0, "1 where a weight or a buffer differs after the attacks",
     "attack in evaluation mode, and look for what writes into the model"},
    {"G6", "stored images get the same verdict", 0, 0.001,
     "share of images predicted otherwise when they are read from the file, in other batches; 1 "
     "where one counts as fooled and was right in the verdict, or the reverse",
     "predictions depend on the batch or on the run: see G1 and G2"},
    {"G7b", "every stored point lies in ball and box", 0, 0,
     "share of stored images further than eps, outside of [0, 1] or not finite",
     "the attack is broken: project in float32, towards the image"},
    {"G8", "images of bytes are fooled as well", 0.01, kNever,
     "robust accuracy with pixels rounded to k / 255 minus that without",
     "the attack lives below the resolution of a picture: report both"},
    {"G29", "the test set chose nothing", 0, 0, "1 where the test set chose the checkpoint",
     "choose on a validation split"},
    {"M11", "every expert is in use", 0.8, 0.99,
     "how far the least used expert is below its equal share, 1 where it serves no image",
     "a collapsed router makes the model a narrow dense net: balance it in training"},
    {"G7", "every point lies in ball and box", 0, 0,
     "share of attacked points further than eps, outside of [0, 1] or not finite",
     "the attack is broken: project in float32, towards the image"},
    {"G9", "no vanishing gradients", 0.01, 0.05,
     "share of images whose gradient is zero, below 1e-12 or not a number, of the cross-entropy or "
     "the margin",
     "the model masks its gradient: replace what is not differentiable by a smooth stand-in "
     "(BPDA), "
     "believe attacks without gradients"},
    {"G10", "gradients agree with finite differences", 0.05, 0.2,
     "median relative error of the gradient along its sign against a difference of +-1e-3, images "
     "that keep their route",
     "a layer's gradient is not its derivative: attack through a stand-in, believe attacks without "
     "gradients"},
    {"G11", "the attack has converged", 0.05, 0.2,
     "share of images not fooled whose best loss still grows by 5 % of its range over the last ten "
     "of fifty steps",
     "more steps, or another step size (APGD)"},
    {"G12", "no silent success", 0, 0,
     "share of images whose verdict changes when the returned point is looked at again",
     "verify by a fresh forward pass; evaluate a randomised model over its randomness"},
    {"G13", "the loss is smooth", 0.1, 0.3,
     "mean change of the margin at random neighbours within 4/255 (L2: as long), relative to its "
     "mean",
     "average gradients over a neighbourhood (smoothed gradient), believe attacks without "
     "gradients"},
    {"G14", "many steps are not weaker than one", 0.002, 0.02,
     "share of images that one step (FGSM) fools and ten (PGD) do not",
     "the loss surface misleads iterative attacks: look for masked gradients"},
    {"G15", "more steps change little", 0.005, 0.03,
     "robust accuracy after 40 steps minus that after 80", "not converged: more steps"},
    {"G16", "more restarts change little", 0.003, 0.03,
     "robust accuracy after 5 restarts minus that after 10", "not converged: more restarts"},
    {"G17", "a larger ball is not safer", 0.002, 0.05,
     "share of images fooled at one eps of a series and not at the next larger one",
     "a larger eps contains the smaller: the attack gets stuck, more steps or restarts"},
    {"G18", "an unbounded attack always succeeds", 0, 0.02,
     "share of images not fooled by any image there is, or robust accuracy beyond chance at half "
     "of "
     "the box",
     "gradients are masked: nothing is robust without a bound"},
    {"G19", "random noise finds nothing more", 0, 0,
     "share of images that resist the gradient and not random points",
     "the attack with gradients is broken or its gradients are masked"},
    {"G20", "a black box finds nothing more", 0.002, 0.02,
     "share of images that resist the gradient and not the Square attack",
     "gradients are masked: count the union, stronger attacks with and without gradients"},
    {"G22", "targeted and untargeted attacks were run", 0, kNever,
     "0 with both, 1 where the protocol has only one of them",
     "aa-standard@1 has both; report the union"},
    {"M1", "the gradient reaches the router", 0.1, 0.5,
     "share of images whose gradient is the same with the gate's gradient and without",
     "hard routing blocks the gradient: attack through a soft gate (BPDA) and along every route"},
    {"M2", "routing boundaries are far", 0.5, kNever,
     "share of images with a first-order distance to another route below eps",
     "the model is piecewise within the ball: attack along every route, steer then strike"},
    {"M3", "routes are stable", 0.1, kNever,
     "share of images that change their route under random noise or PGD",
     "report the routes before and after; attack with frozen routes as well"},
    {"M10", "a prediction does not depend on its neighbours", 0, 0,
     "share of images whose outputs or route differ between copies of themselves and alone",
     "no capacity and no statistics over a batch in evaluation"},
    {"M4", "attacks along each route find little more", 0.002, kNever,
     "share of images fooled first by a climb along a fixed route",
     "routing hides the way from attacks end to end: believe moe-aa@1 alone"},
    {"M5", "a soft router's gradient finds little more", 0.002, kNever,
     "share of images fooled first by the gradient of soft routes, or by points from them",
     "hard routing hides the gradient: believe moe-aa@1 alone"},
    {"M6", "steering first finds little more", 0.002, kNever,
     "share of images fooled first after they were steered to another route",
     "an expert that an image does not reach by itself is weaker: believe moe-aa@1 alone"},
    {"M7", "attacking router and experts jointly finds little more", 0.002, kNever,
     "share of images fooled first by the loss with the router's margin added",
     "router and experts fail together: believe moe-aa@1 alone"},
    {"M8", "a smoothed gradient finds little more", 0.002, kNever,
     "share of images fooled first by gradients averaged over a neighbourhood",
     "the loss is too rough for its gradient: more samples, believe no gradient"},
    {"M12", "no expert is better than the mixture", 0.02, kNever,
     "robust accuracy of the best expert alone minus that of the mixture",
     "the router costs robustness: look at what it chooses, or keep the expert"},
    {"M13", "robustness is not that of moving away", 0.02, kNever,
     "robust accuracy of the mixture minus that with every image kept on its own route",
     "the attack is led astray by the router: believe the attacks along every route"},
    {"M16", "the route does not tell the label", 0.5, kNever,
     "share of the routes' entropy that the label explains",
     "the router is a classifier: attack it as such"},
};

}  // namespace

const char* name_of(CheckStatus status) {
  switch (status) {
    case CheckStatus::pass:
      return "pass";
    case CheckStatus::warn:
      return "warn";
    case CheckStatus::fail:
      return "fail";
    case CheckStatus::skip:
      return "skip";
  }
  return "unknown";
}

const Criterion& criterion(std::string_view id) {
  for (const Criterion& known : kCriteria)
    if (known.id == id) return known;
  throw engine::Error("no check has the id " + std::string(id));
}

Check judged(std::string_view id, double value) {
  const Criterion& c = criterion(id);
  const CheckStatus status = value <= c.pass   ? CheckStatus::pass
                             : value <= c.warn ? CheckStatus::warn
                                               : CheckStatus::fail;
  return {c.id,
          c.title,
          status,
          value,
          c.pass,
          c.meaning,
          status == CheckStatus::pass ? "" : c.next_action};
}

Check skipped(std::string_view id, const std::string& reason) {
  const Criterion& c = criterion(id);
  return {.id = c.id, .title = c.title, .threshold = c.pass, .meaning = reason};
}

}  // namespace moat::attacks
