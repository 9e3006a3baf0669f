// The text files of Tiny-ImageNet: the first byte is the length of wnids.txt, the second that of
// words.txt, the rest is val_annotations.txt.
#include "data/tiny_imagenet.h"

#include "tests/fuzz/reader.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* bytes, size_t size) {
  using namespace moat;
  if (size < 2) return 0;
  const size_t wnids = std::min<size_t>(bytes[0], size - 2),
               words = std::min<size_t>(bytes[1], size - 2 - wnids);
  const std::filesystem::path& root = fuzz::folder();
  fuzz::put(root / "wnids.txt", fuzz::file_of(bytes + 2, wnids));
  fuzz::put(root / "words.txt", fuzz::file_of(bytes + 2 + wnids, words));
  fuzz::put(root / "val/val_annotations.txt",
            fuzz::file_of(bytes + 2 + wnids + words, size - 2 - wnids - words));
  fuzz::put(root / "val/images/val_0.JPEG", "");
  fuzz::put(root / "train/n1/images/n1_0.JPEG", "");
  const data::TinyImagenetLayout layout{.classes = 1, .train_per_class = 1, .val = 1};
  for (const data::Split split : {data::Split::train, data::Split::test})
    fuzz::may_refuse([&] { data::open_tiny_imagenet(layout, root, split); });
  return 0;
}
