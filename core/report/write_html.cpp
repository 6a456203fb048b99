#include "core/report/html.hpp"
#include "core/report/writers.hpp"

namespace misa {

// The page is made of the JSON document, whether that comes from a run or from a file.
std::string write_html(const Report& report, const WriterOptions& /*options*/) {
  return html_page({.document = Json::parse(write_json(report))});
}

std::string write_agreement_html(const AgreementReport& report, const WriterOptions& /*options*/) {
  return html_page({.document = Json::parse(write_agreement_json(report))});
}

std::string write_niah_html(const NiahReport& report, const WriterOptions& /*options*/) {
  return html_page({.document = Json::parse(write_niah_json(report))});
}

}  // namespace misa
