#include "core/report/xml.hpp"

#include <fmt/format.h>

#include "core/report/text.hpp"

namespace misa {

std::string xml_escaped(std::string_view text, bool in_attribute) {
  std::string out;
  for (char c : xml_characters(text)) {
    switch (c) {
      case '&': out += "&amp;"; break;
      case '<': out += "&lt;"; break;
      case '>': out += "&gt;"; break;
      case '"': out += "&quot;"; break;
      case '\r': out += "&#13;"; break;
      case '\n': out += in_attribute ? "&#10;" : "\n"; break;
      case '\t': out += in_attribute ? "&#9;" : "\t"; break;
      default: out += c;
    }
  }
  return out;
}

std::string xml_attribute(std::string_view name, std::string_view value) {
  return fmt::format(" {}=\"{}\"", name, xml_escaped(value, true));
}

std::string xml_attribute(std::string_view name, i64 value) { return fmt::format(" {}=\"{}\"", name, value); }

}  // namespace misa
