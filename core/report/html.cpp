#include "core/report/html.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <string_view>
#include <utility>

#include "core/base/shell_word.hpp"
#include "core/report/result_file.hpp"
#include "core/report/text.hpp"
#include "core/selection/selection_file.hpp"

namespace misa {
namespace {

using chart::escaped;

/// The style of a page, which uses the colours of the drawings in it.
constexpr std::string_view kPageStyle =
    R"(*{box-sizing:border-box}
body{margin:0;background:var(--paper);color:var(--ink);font:16px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,"Liberation Sans","DejaVu Sans",sans-serif}
header,main,footer{max-width:76rem;margin:0 auto;padding:0 1rem}
h1{font-size:1.5rem;line-height:1.25;margin:1.5rem 0 .25rem;overflow-wrap:anywhere}
h2{font-size:1.2rem;margin:2.25rem 0 .5rem;border-bottom:1px solid var(--grid);padding-bottom:.25rem}
p{margin:.4rem 0;max-width:46rem;overflow-wrap:anywhere}
.soft{color:var(--soft)}
a{color:var(--s0)}
:focus-visible{outline:3px solid var(--s0);outline-offset:2px}
.skip{position:absolute;left:-100rem}.skip:focus{left:1rem;top:.5rem;background:var(--paper);padding:.25rem .5rem}
nav ul{list-style:none;padding:0;margin:.5rem 0;display:flex;flex-wrap:wrap;gap:.25rem 1rem}
.warn{border:1px solid var(--s1);border-left-width:.5rem;border-radius:.25rem;padding:.25rem 1rem;margin:1rem 0}
.warn h2{border:0;margin:.25rem 0;padding:0;color:var(--s1)}.warn ul{margin:.25rem 0;padding-left:1.2rem}
.warn li{overflow-wrap:anywhere}
.exhibit{margin:1rem 0 1.5rem}
figure{margin:0;max-width:32rem}
figure svg{display:block;width:100%;height:auto}
figcaption{font-size:.875rem;color:var(--soft);margin:.25rem 0}
.scroll{overflow-x:auto;max-width:100%;margin:.5rem 0}
table{border-collapse:collapse;font-size:.875rem;font-variant-numeric:tabular-nums}
caption{text-align:left;font-weight:600;padding:.25rem 0;caption-side:top}
th,td{padding:.2rem .6rem .2rem 0;text-align:left;vertical-align:top;border-bottom:1px solid var(--grid)}
thead .n{white-space:normal}thead th{color:var(--soft);font-weight:600;vertical-align:bottom}
tbody th{font-weight:500;white-space:nowrap}
.n{text-align:right;white-space:nowrap}
td{white-space:nowrap}td:last-child:not(.n){white-space:normal;min-width:9rem}.long{white-space:normal;min-width:16rem}
.wrap td{white-space:normal;overflow-wrap:anywhere}.wrap th{white-space:normal;min-width:7rem}
details{margin:.5rem 0}summary{cursor:pointer;font-size:.875rem}
pre{overflow-x:auto;background:var(--grid);padding:.75rem;border-radius:.25rem;font-size:.875rem}
footer{margin:2rem auto;color:var(--soft);font-size:.875rem}
@media (min-width:64rem){
.pair{display:grid;grid-template-columns:27rem minmax(0,1fr);gap:1.5rem;align-items:start}
.side{display:grid;grid-template-columns:repeat(auto-fill,minmax(22rem,1fr));gap:1rem 2rem}}
@media print{.skip,nav{display:none}.exhibit,table{break-inside:avoid}body{font-size:11pt}h2{break-after:avoid}
.scroll{overflow:visible}}
)";

constexpr i64 kLongCell = 48;  // characters; a longer one has several lines
constexpr i64 kMostOpen = 40;  // rows of a table that is shown without being asked for

class PageWriter {
 public:
  void section(const PageSection& section) {
    heading(section.heading);
    if (!section.remark.empty()) out_ += "<p>" + escaped(section.remark) + "</p>\n";
    if (section.side_by_side) out_ += "<div class=\"side\">\n";
    for (const Exhibit& exhibit : section.exhibits) add(exhibit, section.side_by_side);
    if (section.side_by_side) out_ += "</div>\n";
    out_ += "</section>\n";
  }

  void heading(const std::string& text) {
    headings_.push_back(text);
    out_ +=
        fmt::format("<section aria-labelledby=\"h{0}\">\n<h2 id=\"h{0}\">{1}</h2>\n", headings_.size(), escaped(text));
  }
  void end_section() { out_ += "</section>\n"; }

  void table(const PageTable& table, bool folded, bool wrapped) {
    if (table.rows.empty()) return;
    const i64 number = ++tables_;
    const std::string caption = fmt::format("Table {}. {}", number, table.caption);
    if (folded) out_ += "<details><summary>" + escaped(caption) + "</summary>\n";
    out_ += fmt::format("<div class=\"scroll\" tabindex=\"0\" role=\"region\" aria-labelledby=\"t{}\">\n<table{}>\n",
                        number, wrapped ? " class=\"wrap\"" : "");
    out_ += fmt::format("<caption id=\"t{}\">{}</caption>\n<thead><tr>", number, escaped(caption));
    for (const PageColumn& column : table.columns) {
      out_ += fmt::format("<th scope=\"col\"{}>{}</th>", column.number ? " class=\"n\"" : "", escaped(column.title));
    }
    out_ += "</tr></thead>\n<tbody>\n";
    for (const std::vector<std::string>& row : table.rows) {
      out_ += "<tr>";
      for (std::size_t i = 0; i < row.size(); ++i) {
        const std::string_view element = i == 0 ? "th" : "td";
        const bool number_cell = i < table.columns.size() && table.columns[i].number;
        out_ += fmt::format("<{0}{1}{2}>{3}</{0}>", element, i == 0 ? " scope=\"row\"" : "",
                            number_cell                         ? " class=\"n\""
                            : display_width(row[i]) > kLongCell ? " class=\"long\""
                                                                : "",
                            escaped(row[i]));
      }
      out_ += "</tr>\n";
    }
    out_ += "</tbody>\n</table>\n</div>\n";
    if (folded) out_ += "</details>\n";
  }

  void add(const std::string& markup) { out_ += markup; }
  const std::string& markup() const { return out_; }
  const std::vector<std::string>& headings() const { return headings_; }

 private:
  void add(const Exhibit& exhibit, bool beneath) {
    out_ += exhibit.figure && !beneath ? "<div class=\"exhibit pair\">\n" : "<div class=\"exhibit\">\n";
    if (exhibit.figure) {
      out_ += "<figure>\n" + chart::inline_svg(*exhibit.figure, fmt::format("f{}", ++figures_));
      const std::string caption = beneath ? exhibit.figure->title : exhibit.remark;
      if (!caption.empty()) out_ += "<figcaption>" + escaped(caption) + "</figcaption>\n";
      out_ += "</figure>\n";
    } else if (!exhibit.remark.empty()) {
      out_ += "<p>" + escaped(exhibit.remark) + "</p>\n";
    }
    out_ += "<div>\n";
    table(exhibit.table, exhibit.folded || std::ssize(exhibit.table.rows) > kMostOpen, false);
    out_ += "</div>\n</div>\n";
  }

  std::string out_;
  std::vector<std::string> headings_;
  i64 figures_ = 0, tables_ = 0;
};

/// What kind of document it is, for the title.
std::string kind_text(const Json& document) {
  const std::string schema = text_at(document, "schema").value_or("");
  if (schema == schema_name(ResultKind::agreement)) return "comparison";
  if (schema == schema_name(ResultKind::sweep)) return "sweep";
  if (schema == schema_name(ResultKind::niah)) return "needle maps";
  return "profile";
}

std::string title_of(const Json& document) {
  const std::string workload = text_at(document, "workload.name").value_or("");
  return kind_text(document) + (workload.empty() ? "" : " of " + workload);
}

std::string command_of(const Json& document) {
  std::vector<std::string> words;
  for (const Json& word : array_at(document, "command_line")) {
    if (word.is_string()) words.push_back(shell_word(word.get<std::string>()));
  }
  return joined(words, " ");
}

constexpr i64 kMostAlike = 2;  // warnings of one id: a sweep has one for each group

/// Everything that makes the numbers less than they seem, as lines.
std::vector<std::string> warnings_of(const Json& document) {
  std::vector<std::string> lines;
  if (!truth_at(document, "complete").value_or(false)) {
    lines.emplace_back("This result is not complete: the run was interrupted.");
  }
  std::map<std::string, i64> seen;
  for (const Json& warning : array_at(document, "warnings")) {
    const std::string id = text_at(warning, "id").value_or("warning"), where = text_at(warning, "where").value_or("");
    if (++seen[id] > kMostAlike) continue;
    lines.push_back(id + ": " + text_at(warning, "text").value_or("") + (where.empty() ? "" : "; " + where));
  }
  for (const auto& [id, count] : seen) {
    if (count > kMostAlike)
      lines.push_back(fmt::format("{}: {} more like it are in the result", id, count - kMostAlike));
  }
  for (const Json& skip : array_at(document, "skipped")) {
    const std::string what =
        text_at(skip, "key").value_or(text_at(skip, "indexer").value_or(text_at(skip, "name").value_or("a case")));
    const std::string backend = text_at(skip, "backend").value_or("");
    lines.push_back(fmt::format("{}{} was skipped: {}", what, backend.empty() ? "" : " on " + backend,
                                text_at(skip, "reason").value_or("no reason is given")));
  }
  return lines;
}

/// Rows of "name, value" of the members of an object, those of inner objects after "outer.".
void add_members(PageTable& table, const Json& object, const std::string& prefix) {
  if (!object.is_object()) return;
  for (const auto& [key, value] : object.items()) {
    std::string name = prefix + key;
    std::replace(name.begin(), name.end(), '_', ' ');
    if (value.is_object()) {
      add_members(table, value, name + ", ");
    } else if (value.is_string()) {
      if (const auto text = value.get<std::string>(); !text.empty()) table.rows.push_back({name, text});
    } else if (value.is_array()) {
      std::vector<std::string> parts;
      for (const Json& one : value) {
        const std::string version = text_at(one, "version").value_or("");
        const std::string part = text_at(one, "name").value_or(one.is_primitive() ? one.dump() : "");
        parts.push_back(version.empty() ? part : part + " " + version);
      }
      if (const std::string text = joined(parts, ", "); !text.empty()) table.rows.push_back({name, text});
    } else if (value.is_number_float()) {
      table.rows.push_back({name, fmt::format("{:.6g}", value.get<double>())});
    } else if (!value.is_null()) {
      table.rows.push_back({name, value.dump()});
    }
  }
}

PageTable members_table(const std::string& caption, const Json* object) {
  PageTable table{.caption = caption, .columns = {{"what"}, {"value"}}};
  if (object != nullptr) add_members(table, *object, "");
  return table;
}

PageTable roofs_table(const Json& document) {
  PageTable table{.caption = "Backends and their measured roofs",
                  .columns = {{"backend"}, {"what it is"}, {"FLOP/s", true}, {"B/s", true}, {"launch", true}}};
  const auto cell = [](std::optional<double> value, std::string_view unit) {
    return value ? si_number(*value, unit) : std::string("–");
  };
  for (const Json& backend : array_at(document, "environment.backends")) {
    const auto launch = number_at(backend, "roofs.launch_ns");
    table.rows.push_back({text_at(backend, "name").value_or(""), text_at(backend, "description").value_or(""),
                          cell(number_at(backend, "roofs.flops_per_second"), "FLOP/s"),
                          cell(number_at(backend, "roofs.bytes_per_second"), "B/s"),
                          cell(launch ? std::optional(*launch * 1e-9) : std::nullopt, "s")});
  }
  return table;
}

void add_warnings(PageWriter& page, const std::vector<std::string>& lines) {
  if (lines.empty()) return;
  page.add("<section class=\"warn\" aria-labelledby=\"warnings\">\n<h2 id=\"warnings\">Read these first</h2>\n<ul>\n");
  for (const std::string& line : lines) page.add("<li>" + escaped(line) + "</li>\n");
  page.add("</ul>\n</section>\n");
}

/// How it was made: the command, the workload, the machine. `whose` is "" or " of A".
void add_origin(PageWriter& page, const Json& document, const std::string& whose) {
  page.heading("Command" + whose);
  page.add(fmt::format("<pre tabindex=\"0\" role=\"region\" aria-label=\"Command line{}\"><code>{}</code></pre>\n",
                       whose, escaped(command_of(document))));
  page.end_section();
  page.heading("Workload and environment" + whose);
  for (const auto& [name, key] : {std::pair{"Workload", "workload"}, {"Inputs", "inputs"}, {"Options", "options"}}) {
    page.table(members_table(name, find_value(document, key)), false, true);
  }
  page.table(roofs_table(document), false, false);
  Json machine = Json::object();
  if (const Json* environment = find_value(document, "environment"); environment && environment->is_object()) {
    machine = *environment;
    machine.erase("backends");
  }
  page.table(members_table("Environment", &machine), true, true);
  page.table(members_table("Measurement", find_value(document, "measurement")), true, true);
  page.end_section();
}

/// The whole file around what is between its header and its footer.
std::string whole_page(const std::string& title, const std::string& subtitle, const PageWriter& page) {
  std::string links;
  for (std::size_t i = 0; i < page.headings().size(); ++i) {
    links += fmt::format("<li><a href=\"#h{}\">{}</a></li>\n", i + 1, escaped(page.headings()[i]));
  }
  return fmt::format(
      "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n"
      "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">\n"
      "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n"
      "<meta name=\"color-scheme\" content=\"light dark\">\n<title>{0}</title>\n<style>\n{1}{2}</style>\n</head>\n"
      "<body>\n<a class=\"skip\" href=\"#content\">Skip to the content</a>\n<header>\n<h1>{0}</h1>\n"
      "<p class=\"soft\">{3}</p>\n<nav aria-label=\"Sections\">\n<ul>\n{4}</ul>\n</nav>\n</header>\n"
      "<main id=\"content\" tabindex=\"-1\">\n{5}</main>\n"
      "<footer><p>Written by misa-prof. This page loads nothing and runs nothing.</p></footer>\n</body>\n</html>\n",
      escaped(title), chart::style_sheet(), kPageStyle, escaped(subtitle), links, page.markup());
}

}  // namespace

std::string html_page(const PageSource& source) {
  const Json& document = source.document;
  PageWriter page;
  add_warnings(page, warnings_of(document));
  for (const PageSection& section : sections_of(document)) page.section(section);
  add_origin(page, document, "");
  const std::string subtitle = joined({source.path, text_at(document, "environment.timestamp_utc").value_or(""),
                                       text_at(document, "environment.cpu").value_or(""),
                                       "misa-prof " + text_at(document, "tool.version").value_or("of unknown version")},
                                      " · ");
  return whole_page("misa-prof: " + title_of(document), subtitle, page);
}

std::string html_difference(const PageSource& a, const PageSource& b, const DiffReport& difference) {
  PageWriter page;
  std::vector<std::string> lines = difference_warnings(difference);
  for (const auto& [side, source] : {std::pair{"A: ", &a}, {"B: ", &b}}) {
    for (const std::string& line : warnings_of(source->document)) lines.push_back(side + line);
  }
  add_warnings(page, lines);
  for (const PageSection& section : difference_sections(difference)) page.section(section);
  add_origin(page, a.document, " of A");
  add_origin(page, b.document, " of B");
  return whole_page("misa-prof: difference of two results", "A: " + a.path + " · B: " + b.path, page);
}

std::string html_selection(const std::string& path, const SelectionFile& file) {
  PageWriter page;
  for (const PageSection& section : selection_sections(file)) page.section(section);
  page.heading("Origin");
  PageTable metadata{.caption = "Metadata of the selection", .columns = {{"what"}, {"value"}}};
  for (const auto& [key, value] : file.metadata) metadata.rows.push_back({key, value});
  page.table(metadata, false, true);
  page.end_section();
  return whole_page("misa-prof: a recorded selection", path, page);
}

std::vector<Exhibit> drawings_of(const Json& document) { return drawings_of(sections_of(document)); }

std::vector<Exhibit> drawings_of(std::vector<PageSection> sections) {
  std::vector<Exhibit> drawings;
  std::map<std::string, i64> seen;
  for (PageSection& section : sections) {
    for (Exhibit& exhibit : section.exhibits) {
      if (!exhibit.figure) continue;
      if (const i64 count = ++seen[exhibit.name]; count > 1) exhibit.name += fmt::format("-{}", count);
      drawings.push_back(std::move(exhibit));
    }
  }
  return drawings;
}

}  // namespace misa
