#pragma once

#include <string>
#include <string_view>

#include "core/base/types.hpp"

namespace misa {

/// Text for XML. Line ends stand in text as they are; an XML reader makes spaces of them in an attribute.
std::string xml_escaped(std::string_view text, bool in_attribute);

/// ' name="value"', escaped.
std::string xml_attribute(std::string_view name, std::string_view value);
std::string xml_attribute(std::string_view name, i64 value);

}  // namespace misa
