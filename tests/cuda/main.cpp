#define CATCH_CONFIG_RUNNER
#include <cuda_runtime.h>

#include <catch2/catch.hpp>
#include <cstdio>

// Catch2's own program, except that without a GPU the tests are skipped (exit status 77).
int main(int argc, char** argv) {
  Catch::Session session;
  if (const int error = session.applyCommandLine(argc, argv)) return error;
  const Catch::ConfigData& config = session.configData();
  if (config.showHelp || config.listTests || config.listTags || config.listTestNamesOnly)
    return session.run();
  int devices = 0;
  const cudaError_t error = cudaGetDeviceCount(&devices);
  if (error != cudaSuccess || devices == 0) {
    std::printf("skipped: no usable GPU (%s)\n", cudaGetErrorString(error));
    return 77;
  }
  return session.run();
}
