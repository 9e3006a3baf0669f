#pragma once

#include <string>
#include <vector>

namespace moat::train {

// "8/255", "0.031", "1e-2"; throws UsageError for anything else. `what` names it in the message.
double parse_number(const std::string& text, const std::string& what);

// The largest radius that makes sense in pixels of [0, 1]: 1 for "linf"; 5 for "l2", where 0.5
// (32 x 32) and 3 (224 x 224) are usual.
double largest_eps(const std::string& norm);

// Throws UsageError unless 0 <= eps <= largest_eps(norm); 8 earns "did you mean 8/255 = 0.0314?".
void require_eps(double eps, const std::string& what, const std::string& norm = "linf");
double parse_eps(const std::string& text, const std::string& what,
                 const std::string& norm = "linf");

// "0.1,8/255" or "from:to:step", numbers as above, ascending; throws UsageError for anything else,
// and for more than a thousand numbers.
std::vector<double> parse_numbers(const std::string& text, const std::string& what);

std::string print_eps(double eps);  // "0.0314 (8/255)"

}  // namespace moat::train
