#pragma once

#include <string>

#include "core/report/report.hpp"
#include "core/report/write.hpp"

// What write.cpp chooses from; one file each.
namespace misa {

std::string write_json(const Report& report);
std::string write_json_lines(const Report& report);
std::string write_csv(const Report& report);
std::string write_markdown(const Report& report);
std::string write_table(const Report& report, const WriterOptions& options);

}  // namespace misa
