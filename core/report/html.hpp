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

/// The same about two results that were compared (core/experiment/diff.hpp), with the origin of both.
std::string html_difference(const PageSource& a, const PageSource& b, const DiffReport& difference);

/// The same about a recorded selection, with its metadata.
std::string html_selection(const std::string& path, const SelectionFile& file);

/// The drawings of sections, or of a document, in the order of the page. No two have the same name: the second "speed"
/// is "speed-2".
std::vector<Exhibit> drawings_of(std::vector<PageSection> sections);
std::vector<Exhibit> drawings_of(const Json& document);

}  // namespace misa
