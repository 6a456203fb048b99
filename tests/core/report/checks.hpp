#pragma once

#include <doctest/doctest.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <nlohmann/json.hpp>
#include <set>
#include <sstream>
#include <string>
#include <vector>

#include "core/report/text.hpp"
#include "tests/support/skip.hpp"

namespace misa {

/// Compares with tests/core/report/golden/<name>. MISA_UPDATE_GOLDENS=1 writes it instead; look at the difference
/// before committing it.
inline void check_golden(const std::string& name, const std::string& text) {
  const std::string path = std::string(MISA_SOURCE_DIR) + "/tests/core/report/golden/" + name;
  if (std::getenv("MISA_UPDATE_GOLDENS") != nullptr) std::ofstream(path, std::ios::binary) << text;
  std::ifstream file(path, std::ios::binary);
  const std::string expected{std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
  CAPTURE(name);
  CHECK(text == expected);
}

inline i64 widest_line(const std::string& text) {
  i64 widest = 0;
  std::istringstream lines(text);
  for (std::string line; std::getline(lines, line);) widest = std::max(widest, display_width(line));
  return widest;
}

/// nlohmann's parser takes the last of two equal keys; a strict reader refuses.
inline nlohmann::ordered_json parse_strictly(const std::string& text) {
  std::vector<std::set<std::string>> open;
  return nlohmann::ordered_json::parse(
      text, [&](int, nlohmann::ordered_json::parse_event_t event, nlohmann::ordered_json& parsed) {
        if (event == nlohmann::ordered_json::parse_event_t::object_start) open.emplace_back();
        if (event == nlohmann::ordered_json::parse_event_t::object_end) open.pop_back();
        if (event == nlohmann::ordered_json::parse_event_t::key)
          CHECK(open.back().insert(parsed.get<std::string>()).second);
        return true;
      });
}

/// Whether `command` followed by the path of a file with `text` succeeds.
inline bool accepts(const std::string& command, const std::string& text, const std::string& suffix) {
  const std::string path = "/tmp/misa-prof-report-test-" + std::to_string(getpid()) + suffix;
  std::ofstream(path, std::ios::binary) << text;
  const int status = std::system((command + " " + path + " >/dev/null 2>&1").c_str());
  std::remove(path.c_str());
  return status == 0;
}

/// For doctest::skip: a test of schemas needs python3 with jsonschema.
inline bool lacks_schema_checker() {
  return testing::lacks(std::system("/usr/bin/python3 -c 'import jsonschema' 2>/dev/null") == 0,
                        "jsonschema for /usr/bin/python3 (scripts/install.sh --ci)");
}

inline bool agrees_with_schema(const std::string& text, const std::string& suffix) {
  return accepts("/usr/bin/python3 '" + std::string(MISA_SOURCE_DIR) + "/scripts/check_json.py'", text, suffix);
}

}  // namespace misa
