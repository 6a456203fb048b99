#pragma once

#include <optional>
#include <string>
#include <vector>

#include "core/chart/svg.hpp"
#include "core/report/json_parts.hpp"

// What is shown of a document: drawings and tables, before they are written as a page or as a file.
namespace misa {

struct DiffReport;
struct SelectionFile;

struct PageColumn {
  std::string title;    ///< with the unit
  bool number = false;  ///< set flush right
};

/// A table; the first cell of each row is its heading. Cells are text, not yet escaped.
struct PageTable {
  std::string caption{};
  std::vector<PageColumn> columns{};
  std::vector<std::vector<std::string>> rows{};
};

/// A drawing with the table of its numbers.
struct Exhibit {
  std::string name{};                     ///< of the drawing, for `report --figure`: "cost"
  std::optional<chart::Figure> figure{};  ///< empty: the table alone
  std::string remark{};                   ///< how to read it, or why it is not drawn
  PageTable table{};                      ///< without rows: none
  bool folded = false;                    ///< the table is shown on demand
};

struct PageSection {
  std::string heading;
  std::string remark{};
  std::vector<Exhibit> exhibits{};
  bool side_by_side = false;  ///< several small drawings in a line
};

/// The sections of a document: what a result, an agreement, a sweep or a needle map shows. Values that are missing or
/// of a wrong type are left out, whatever the document holds.
std::vector<PageSection> sections_of(const Json& document);
/// One kind each.
std::vector<PageSection> result_sections(const Json& document);
std::vector<PageSection> agreement_sections(const Json& document);
std::vector<PageSection> sweep_sections(const Json& document);
std::vector<PageSection> niah_sections(const Json& document);

/// Shows how two results differ. Where their inputs or machines differ, no time of one is set against one of the other.
std::vector<PageSection> difference_sections(const DiffReport& report);
/// Says in what two results are not alike, and which cases only one of them has.
std::vector<std::string> difference_warnings(const DiffReport& report);

/// Shows which heads each row of a recorded selection keeps (core/selection/selection_file.hpp).
std::vector<PageSection> selection_sections(const SelectionFile& file);

/// Names of the cases of a document, no two alike as far as their parameters differ: "misa, h 8", "hisa on cuda".
std::vector<std::string> names_of_cases(const Json& cases);

}  // namespace misa
