#include "kernels/routing/dispatch_rows.h"

#include <algorithm>
#include <cstring>

#include "kernels/index_range.h"
#include "kernels/parallel.h"

namespace moat::kernels {

Status dispatch_rows(Cpu, const DispatchRows& a) {
  if (a.tokens < 0 || a.rows < 0 || a.width < 0 ||
      !indices_in_range(a.row_token, a.rows, a.tokens, -1))
    return Status::bad_args;
  constexpr int64_t kGrain = 65536;  // bytes a thread moves at least
  const int64_t bytes = a.width * static_cast<int64_t>(size_of(a.dtype));
  parallel_for(a.rows, std::max<int64_t>(1, kGrain / std::max<int64_t>(1, bytes)),
               [&](int64_t from, int64_t to) {
                 for (int64_t r = from; r < to; ++r) {
                   char* row = static_cast<char*>(a.y) + r * bytes;
                   if (a.row_token[r] < 0)
                     std::memset(row, 0, static_cast<size_t>(bytes));
                   else
                     std::memcpy(row, static_cast<const char*>(a.x) + a.row_token[r] * bytes,
                                 static_cast<size_t>(bytes));
                 }
               });
  return Status::ok;
}

}  // namespace moat::kernels
