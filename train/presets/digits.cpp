#include "train/presets/recipe.h"

namespace moat::train {

namespace {

Recipe recipe(std::string name, std::string about, std::string from,
              std::vector<std::string> settings) {
  const bool is_demo = name.starts_with("demo");
  return {is_demo ? "Demo" : "Digits",
          {std::move(name), std::move(about)},
          std::move(from),
          std::move(settings)};
}

}  // namespace

std::vector<Recipe> digits_recipes() {
  return {
      recipe("digits-natural", "dense net on the digits, no attack", "", {"train.method=natural"}),
      recipe("digits-at", "dense net on the digits, adversarial training (PGD-10, eps 0.1)", "",
             {"train.method=at", "train.epochs=40"}),
      recipe("digits-at-s-dense", "half-width net, adversarial training", "digits-at",
             {"model.ratio=0.5"}),
      recipe("digits-at-sparse",
             "net with half of its filters, by learned scores, adversarial training", "digits-at",
             {"model.kept=0.5"}),
      recipe("digits-at-moe", "mixture of 2 experts, adversarial training of all weights jointly",
             "digits-at", {"model.name=digits-moe-resnet"}),
      recipe("digits-trades", "dense net, TRADES with AdvMoE's weight of the KL term", "digits-at",
             {"train.method=trades", "train.beta=3"}),
      recipe("digits-trades-moe", "mixture of 2 experts, TRADES of all weights jointly",
             "digits-at-moe", {"train.method=trades", "train.beta=3"}),
      recipe("digits-advmoe", "mixture of 2 experts, AdvMoE: router and experts in turns",
             "digits-at-moe", {"train.method=advmoe", "train.beta=3"}),
      recipe("digits-advmoe-released", "the same by the objective of the AdvMoE release",
             "digits-advmoe", {"train.form=released", "train.beta=6"}),
      recipe("digits-rt-er", "2 networks on the digits, RT-ER: the mixture and each second expert",
             "digits-at",
             {"model.name=digits-networks-resnet", "model.experts=2", "model.normalize=data",
              "train.method=rt-er", "eval.validation_every=5"}),
      recipe("digits-rt-er-paper", "the same with a router that learns", "digits-rt-er",
             {"model.router=trained", "train.gate=through"}),
      recipe("digits-rt-er-released", "the same by running statistics, as released", "digits-rt-er",
             {"train.batch_norm=running"}),
      recipe("digits-jtdmoe", "two such mixtures, JTDMoE: a robust and a standard one in turns",
             "digits-rt-er", {"train.method=jtdmoe", "train.epochs=30"}),
      recipe("digits-jtdmoe-paper", "the same with routers that learn", "digits-jtdmoe",
             {"model.router=trained", "train.gate=through"}),
      recipe("digits-jtdmoe-released",
             "the same with every expert's KL term, by running statistics, as released",
             "digits-jtdmoe", {"train.kl_experts=all", "train.batch_norm=running"}),
      recipe("digits-vit-at", "vision transformer, adversarial training (PGD-3, eps 0.1)",
             "digits-at",
             {"model.name=digits-vit", "train.epochs=60", "train.batch=32", "train.steps=3",
              "train.optimizer=adamw", "train.learning_rate=1e-3", "train.warmup_epochs=2",
              "train.weight_decay=0.1", "train.clip_norm=1", "eval.validation_every=5"}),
      recipe("digits-vit-deep-at", "the same with a block more", "digits-vit-at",
             {"model.name=digits-vit-deep"}),
      recipe("digits-v-moe-at", "the transformer with mixtures of 4 experts for tokens",
             "digits-vit-at", {"model.name=digits-v-moe"}),
      recipe("digits-v-moe-at-auxiliary", "the same with the gates' losses in the attack",
             "digits-v-moe-at", {"train.attack_auxiliary=1"}),
      recipe("demo-dense", "the demo's dense net", "digits-at",
             {"train.epochs=30", "eval.validation_every=5"}),
      recipe("demo-moe", "the demo's jointly trained mixture", "digits-at-moe",
             {"eval.validation_every=5"}),
      recipe("demo-advmoe", "the demo's AdvMoE mixture", "digits-advmoe",
             {"eval.validation_every=5"}),
  };
}

}  // namespace moat::train
