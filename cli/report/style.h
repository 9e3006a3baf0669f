#pragma once

namespace moat::cli::report {

// The page's style sheet: light and dark by the reader's setting, printable.
extern const char* const kStyle;

}  // namespace moat::cli::report
