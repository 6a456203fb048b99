#pragma once

#include <initializer_list>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "core/report/json_parts.hpp"

// Reading what this program wrote. Files come from elsewhere, so nothing about them is trusted: JSON is read strictly
// (one document, UTF-8, no key twice, nested and sized within limits), and values are asked for by type.
namespace misa {

/// What a document is, by its "schema".
enum class ResultKind { result, agreement, sweep, niah };
/// "misa-prof/result" and so on.
std::string_view schema_name(ResultKind kind);

/// A result that was read from a file: the whole document. Of JSON Lines the records are put together: what the header
/// has, "cases", what the footer has.
struct ResultFile {
  std::string path;
  ResultKind kind = ResultKind::result;
  Json document;         ///< an object
  bool complete = true;  ///< false: interrupted, or cut off
};

/// Records of a JSON Lines file, each an object. A last line without a line break at its end was being written when the
/// process ended; it is left out.
struct JsonLines {
  std::vector<Json> records;
  bool cut_off = false;  ///< the last line was left out
};

/// Reads a document or JSON Lines, whichever the file holds. Error(input): MP-E485 the file is not strict JSON (with
/// line and column) or exceeds a limit; MP-E486 it is no result, none of `allowed`, or of another major version;
/// MP-E487 it is not complete, unless `allow_incomplete`; MP-E488 a value has the wrong type.
ResultFile read_result_file(const std::string& path, std::initializer_list<ResultKind> allowed,
                            bool allow_incomplete = false);
JsonLines read_json_lines(const std::string& path);

/// The same for a text that was read already; `path` is for messages.
ResultFile parse_result(std::string_view text, const std::string& path, std::initializer_list<ResultKind> allowed,
                        bool allow_incomplete = false);
JsonLines parse_json_lines(std::string_view text, const std::string& path);

// What is in a document. A path names keys, with dots between them: "workload.context.max". Nothing of the right type
// there: an empty optional, or an empty array.

/// Null where there is no such value.
const Json* find_value(const Json& json, std::string_view path);
std::optional<std::string> text_at(const Json& json, std::string_view path);
std::optional<double> number_at(const Json& json, std::string_view path);  ///< finite
std::optional<i64> count_at(const Json& json, std::string_view path);      ///< a whole number from 0 on
std::optional<bool> truth_at(const Json& json, std::string_view path);
/// The elements of an array; of anything else, none.
const Json& array_at(const Json& json, std::string_view path);
/// The numbers of an array; other elements are left out.
std::vector<double> numbers_at(const Json& json, std::string_view path);

/// The same, of a file that must have it: Error(input) MP-E488 with the file and the path otherwise. `where` comes
/// before the path: "cases[3]".
std::string need_text(const ResultFile& file, const Json& json, std::string_view path, const std::string& where = {});
double need_number(const ResultFile& file, const Json& json, std::string_view path, const std::string& where = {});
const Json& need_array(const ResultFile& file, const Json& json, std::string_view path, const std::string& where = {});

}  // namespace misa
