#include <algorithm>

#include "core/report/json_parts.hpp"
#include "core/report/writers.hpp"

namespace misa {
namespace {

Json side_json(const ReportSide& side) {
  Json json{{"name", side.name}, {"description", side.description}};
  put(json, "arithmetic", side.arithmetic.empty() ? Json() : Json(side.arithmetic), "not known");
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
  Json json{{"side", miss.side}, {"row", miss.row}, {"missed", miss.missed}, {"taken", miss.taken}};
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
  return {{"side", violation.side},
          {"row", violation.row},
          {"column", violation.column},
          {"id", violation.id},
          {"fault", fault_name(violation.fault)}};
}

Json difference_json(const Difference& difference) {
  Json json{{"row", difference.row},
            {"tokens", difference.tokens},
            {"token", difference.token},
            {"id", difference.id},
            {"rank", difference.rank}};
  put(json, "score", difference.score);
  put(json, "gap", difference.last_score - difference.score);
  put(json, "bound", difference.bound, "no arithmetic is stated");
  return json;
}

Json choice_json(const ChoiceAgreement& choice) {
  Json json{{"name", choice_name(choice.choice)}, {"rows", choice.rows},     {"trivial", choice.trivial},
            {"verdicts", verdicts_json(choice)},  {"missed", choice.missed}, {"violated", choice.violated}};
  put(json, "worst_mass_lost", choice.mass_lost);
  put(json, "largest_bound_share", choice.largest_share);
  json["misses"] = array_of(choice.misses, miss_json);
  json["violations"] = array_of(choice.violations, violation_json);
  json["differing"] = choice.differing;
  json["differences"] = array_of(choice.differences, difference_json);
  json["reason"] = choice.reason;
  return json;
}

Json check_json(const ReportCheck& check) {
  return {{"name", check.name}, {"passed", check.passed}, {"detail", check.detail}};
}

Json agreement_case_json(const AgreementCase& one) {
  Json json{{"indexer", one.indexer},
            {"router", or_null(one.router)},
            {"parameters", parameters_json(one.parameters)},
            {"used", parameters_json(one.used)},
            {"verdict", conclusion_name(one.verdict)},
            {"explanation", one.explanation},
            {"choices", array_of(one.choices, choice_json)},
            {"checks", array_of(one.checks, check_json)}};
  put(json, "quality", one.quality ? quality_json(*one.quality) : Json(), "not asked for");
  put(json, "minimum_recall", one.minimum_recall, "not asked for");
  json["reproduce"] = one.reproduce;
  put_ns(json, "duration_ns", one.seconds);
  return json;
}

}  // namespace

std::string write_agreement_json(const AgreementReport& report, const WriterOptions& /*options*/) {
  Json json = identity_json("agreement-1.0.schema.json", "misa-prof/agreement", kAgreementSchemaVersion,
                            report.tool_version, report.command_line);
  json.update({{"environment", environment_json(report.environment)},
               {"workload", workload_json(report.workload)},
               {"input_hash", report.input_hash},
               {"side", side_json(report.side)},
               {"against", side_json(report.against)},
               {"max_miss", report.max_miss},
               {"cases", array_of(report.cases, agreement_case_json)},
               {"warnings", warnings_json(report.warnings)},
               {"complete", !report.interrupted}});
  return text_of(json, 2);
}

}  // namespace misa
