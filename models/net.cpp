#include "models/net.h"

#include "models/densenet.h"
#include "models/resnet.h"
#include "models/vgg.h"
#include "models/vision_transformer.h"
#include "models/wide_resnet.h"

namespace moat::models {

std::unique_ptr<Net> make_net(const NetShape& shape, Init init, engine::InitStream& stream) {
  engine::require(!shape.blocks.empty() && shape.blocks.size() == shape.widths.size(),
                  "a net needs one width per stage and at least one stage");
  switch (shape.family) {
    case Family::resnet:
      return std::make_unique<ResNet>(shape, init, stream);
    case Family::wide_resnet:
    case Family::preact_resnet:
      return std::make_unique<WideResNet>(shape, init, stream);
    case Family::vgg:
      return std::make_unique<Vgg>(shape, init, stream);
    case Family::densenet:
      return std::make_unique<DenseNet>(shape, init, stream);
    case Family::vit:
      return std::make_unique<VisionTransformer>(shape, stream);
  }
  throw engine::Error("unknown family of networks");
}

}  // namespace moat::models
