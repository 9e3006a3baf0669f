#pragma once

namespace moat::kernels {

// A batch of tokens cut into `count` pieces of `each` tokens, the last of them shorter: a choice of
// experts is counted piece by piece. A gate whose blocks own a piece each wants many pieces, what
// sums up their counts wants few: 16 tokens each up to 16384 tokens, then up to 1024 pieces. No
// tokens are one piece.
struct TokenPieces {
  static constexpr int kUnit = 16;  // divides `each`
  static constexpr int kMost = 1024;
  int each, count;
};
constexpr TokenPieces token_pieces(int tokens) {
  const int each =
      TokenPieces::kUnit * (1 + (tokens - 1) / (TokenPieces::kUnit * TokenPieces::kMost));
  return {each, 1 + (tokens - 1) / each};
}

}  // namespace moat::kernels
