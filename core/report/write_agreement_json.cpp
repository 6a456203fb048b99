#include <algorithm>

#include "core/report/agreement_writers.hpp"
#include "core/report/json_parts.hpp"

namespace misa {
namespace {

Json side_json(const ReportSide& side) {
  Json json;
  put(json, "name", side.name);
  put(json, "description", side.description);
  if (side.arithmetic.empty()) {
    put_null(json, "arithmetic", "not known");
  } else {
    put(json, "arithmetic", side.arithmetic);
  }
  return json;
}

/// Rows by verdict: "tie_swap".
Json verdicts_json(const ChoiceAgreement& choice) {
  Json json;
  for (std::size_t i = 0; i < kVerdictNames.size(); ++i) {
    std::string key(kVerdictNames[i]);
    std::replace(key.begin(), key.end(), '-', '_');
    json[key] = choice.verdicts[i];
  }
  return json;
}

Json miss_json(const Miss& miss) {
  Json json;
  put(json, "side", miss.side);
  json["row"] = miss.row;
  json["missed"] = miss.missed;
  json["taken"] = miss.taken;
  put(json, "missed_score", miss.missed_score);
  put(json, "taken_score", miss.taken_score);
  json["rank"] = miss.rank;
  put(json, "gap_to_last", miss.to_last);
  put(json, "mass_lost", miss.mass_lost);
  put(json, "bound", miss.bound);
  json["forced"] = miss.forced;
  return json;
}

Json violation_json(const Violation& violation) {
  Json json;
  put(json, "side", violation.side);
  json["row"] = violation.row;
  json["column"] = violation.column;
  json["id"] = violation.id;
  put(json, "fault", fault_name(violation.fault));
  return json;
}

Json difference_json(const Difference& difference) {
  Json json;
  json["row"] = difference.row;
  json["tokens"] = difference.tokens;
  json["token"] = difference.token;
  put(json, "score", difference.score);
  put(json, "gap", difference.last_score - difference.score);
  put(json, "bound", difference.bound);
  return json;
}

Json choice_json(const ChoiceAgreement& choice) {
  Json json;
  put(json, "name", choice_name(choice.choice));
  json["rows"] = choice.rows;
  json["trivial"] = choice.trivial;
  json["verdicts"] = verdicts_json(choice);
  json["missed"] = choice.missed;
  json["violated"] = choice.violated;
  put(json, "worst_mass_lost", choice.mass_lost);
  put(json, "largest_bound_share", choice.largest_share);
  json["misses"] = Json::array();
  for (const Miss& miss : choice.misses) json["misses"].push_back(miss_json(miss));
  json["violations"] = Json::array();
  for (const Violation& violation : choice.violations) json["violations"].push_back(violation_json(violation));
  json["differing"] = choice.differing;
  json["differences"] = Json::array();
  for (const Difference& difference : choice.differences) {
    json["differences"].push_back(difference_json(difference));
  }
  put(json, "reason", choice.reason);
  return json;
}

Json check_json(const ReportCheck& check) {
  Json json;
  put(json, "name", check.name);
  json["passed"] = check.passed;
  put(json, "detail", check.detail);
  return json;
}

Json case_json(const AgreementCase& one) {
  Json json;
  put(json, "indexer", one.indexer);
  put(json, "router", one.router);
  json["parameters"] = parameters_json(one.parameters);
  json["used"] = parameters_json(one.used);
  put(json, "verdict", conclusion_name(one.verdict));
  put(json, "explanation", one.explanation);
  json["choices"] = Json::array();
  for (const ChoiceAgreement& choice : one.choices) json["choices"].push_back(choice_json(choice));
  json["checks"] = Json::array();
  for (const ReportCheck& check : one.checks) json["checks"].push_back(check_json(check));
  if (one.quality) {
    json["quality"] = quality_json(*one.quality);
  } else {
    put_null(json, "quality", "not asked for");
  }
  put(json, "minimum_recall", one.minimum_recall, "not asked for");
  put(json, "reproduce", one.reproduce);
  put_ns(json, "duration_ns", one.seconds);
  return json;
}

}  // namespace

std::string write_agreement_json(const AgreementReport& report, const WriterOptions& /*options*/) {
  Json json;
  put_identity(json, "agreement-1.0.schema.json", "misa-prof/agreement", kAgreementSchemaVersion, report.tool_version,
               report.command_line);
  json["environment"] = environment_json(report.environment);
  json["workload"] = workload_json(report.workload);
  put(json, "input_hash", report.input_hash);
  json["side"] = side_json(report.side);
  json["against"] = side_json(report.against);
  json["max_miss"] = report.max_miss;
  json["cases"] = Json::array();
  for (const AgreementCase& one : report.cases) json["cases"].push_back(case_json(one));
  json["warnings"] = warnings_json(report.warnings);
  json["complete"] = !report.interrupted;
  return json.dump(2) + '\n';
}

}  // namespace misa
