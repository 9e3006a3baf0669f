#pragma once

#include <filesystem>

#include "data/image_folder.h"

namespace moat::data {

// How many images Tiny-ImageNet (Stanford CS231n: 64x64, 200 classes of ImageNet) is published
// with.
struct TinyImagenetLayout {
  int classes = 200, train_per_class = 500, val = 10000;
};

// `root` holds the published files, or the folder tiny-imagenet-200/ with them: wnids.txt,
// words.txt, train/<wnid>/images/*.JPEG, val/images/*.JPEG and val/val_annotations.txt. The
// published test/ has no labels and is not read: the test split is the published val/, the
// validation split every tenth training image.
//   class    number of its wnid, sorted; named by the wnid and the first of its words
//   id       of the training images: sorted by class, then file name; of the test images: number of
//            the line in val_annotations.txt
//   row      training: the classes take turns, each in the order of its ids; test: by id
// Throws where classes, images and annotations are not those of the layout, naming what is amiss,
// and as image_folder() does.
Source open_tiny_imagenet(const TinyImagenetLayout& layout, const std::filesystem::path& root,
                          Split split, const ImageFolderOptions& options = {});

}  // namespace moat::data
