#pragma once

#include <string>
#include <vector>

#include "core/report/exhibit.hpp"

namespace misa {

/// A document and where it came from.
struct PageSource {
  std::string path{};  ///< empty: it has no file
  Json document;
};

/// One HTML page about a document: its warnings, drawings with their tables, environment, and the command that made
/// it. The page loads nothing and runs nothing: its content security policy allows the style sheet within it alone.
/// Every text is escaped.
std::string html_page(const PageSource& source);

/// The drawings of a document by name, in the order of the page.
std::vector<Exhibit> drawings_of(const Json& document);

}  // namespace misa
