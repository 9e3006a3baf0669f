#pragma once

#include <optional>
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

// A remark when eps is within 2 % of a radius of the literature (k/255, k a power of two) and not
// that radius: 0.031 is most likely 8/255.
std::optional<std::string> eps_note(double eps);

}  // namespace moat::train
