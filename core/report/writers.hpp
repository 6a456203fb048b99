#pragma once

#include <string>

#include "core/report/report.hpp"
#include "core/report/write.hpp"

// The writers of profiles, a file each. All have the signature of ReportFormat; only the table looks at the options.
namespace misa {

std::string write_json(const Report& report, const WriterOptions& options = {});
std::string write_json_lines(const Report& report, const WriterOptions& options = {});
std::string write_csv(const Report& report, const WriterOptions& options = {});
std::string write_markdown(const Report& report, const WriterOptions& options = {});
std::string write_table(const Report& report, const WriterOptions& options);

}  // namespace misa
