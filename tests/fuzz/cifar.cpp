// One training and one test record in the layout of CIFAR-10; the first byte is the length of the
// file of class names, which comes before the record.
#include "data/cifar.h"

#include "tests/fuzz/reader.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* bytes, size_t size) {
  using namespace moat;
  if (size == 0) return 0;
  const size_t names = std::min<size_t>(bytes[0], size - 1);
  const std::string record = fuzz::file_of(bytes + 1 + names, size - 1 - names);
  data::CifarLayout layout = data::cifar10_layout();
  layout.train_files.resize(1);
  layout.train_records = layout.test_records = 1;
  fuzz::put(fuzz::folder() / layout.names_file, fuzz::file_of(bytes + 1, names));
  fuzz::put(fuzz::folder() / layout.train_files[0], record);
  fuzz::put(fuzz::folder() / layout.test_files[0], record);
  for (const data::Split split : {data::Split::train, data::Split::validation, data::Split::test})
    fuzz::may_refuse([&] { data::validate(data::cifar(layout, fuzz::folder(), split)); });
  return 0;
}
