#include "kernels/library/onednn.h"

namespace moat::kernels {

Planned::Planned(const dnnl::engine& engine, dnnl::primitive primitive,
                 const std::vector<Argument>& arguments, const dnnl::memory::desc& scratch)
    : primitive_(std::move(primitive)), scratch_bytes_(scratch.get_size()) {
  const auto add = [&](int id, const dnnl::memory::desc& desc) {
    memories_.emplace_back(desc, engine, nullptr);
    call_.push_back({id, memories_.back().get()});
  };
  for (const Argument& argument : arguments) add(argument.id, argument.desc);
  add(DNNL_ARG_SCRATCHPAD, scratch);
}

void Planned::run(const dnnl::stream& stream, std::initializer_list<const void*> addresses,
                  void* scratch) {
  size_t i = 0;
  for (const void* address : addresses)
    if (address) memories_[i++].set_data_handle(const_cast<void*>(address));
  memories_[i].set_data_handle(scratch);
  dnnl::error::wrap_c_api(dnnl_primitive_execute(primitive_.get(), stream.get(),
                                                 static_cast<int>(call_.size()), call_.data()),
                          "could not execute a primitive");
}

std::string Planned::implementation() const {
  const char* name = "";
  dnnl::error::wrap_c_api(dnnl_primitive_desc_query(primitive_.get_primitive_desc(),
                                                    dnnl_query_impl_info_str, 0, &name),
                          "could not ask a primitive for its implementation");
  return name;
}

dnnl::memory::data_type onednn_type(Dtype dtype) {
  return dtype == Dtype::bf16 ? dnnl::memory::data_type::bf16 : dnnl::memory::data_type::f32;
}

dnnl::primitive_attr with_user_scratch() {
  dnnl::primitive_attr attr;
  attr.set_scratchpad_mode(dnnl::scratchpad_mode::user);
  return attr;
}

}  // namespace moat::kernels
