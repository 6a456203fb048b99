#pragma once

#include <filesystem>
#include <random>
#include <string>

namespace misa::testing {

/// A path for one file, which is gone with the test.
struct TemporaryPath {
  std::string path;
  TemporaryPath() {
    static int count = 0;
    std::random_device device;
    path = (std::filesystem::temp_directory_path() /
            ("misa-test-" + std::to_string(device()) + "-" + std::to_string(count++) + ".safetensors"))
               .string();
  }
  TemporaryPath(const TemporaryPath&) = delete;
  TemporaryPath& operator=(const TemporaryPath&) = delete;
  ~TemporaryPath() { std::filesystem::remove(path); }
};

}  // namespace misa::testing
