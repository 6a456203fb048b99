#include "core/selection/selection_file.hpp"

#include <doctest/doctest.h>

#include <limits>

#include "tests/support/raw_file.hpp"

namespace misa {
namespace {

using testing::Outcome;
using testing::outcome_of;
using testing::RawFile;
using testing::Spoiled;
using testing::TemporaryPath;

constexpr i64 kRows = 4;

/// What a selection's file keeps of a workload: rows of 2 heads, windows and metadata.
Workload workload_of_rows() {
  Workload w;
  w.metadata = {{"provenance", "synthetic"}, {"index_topk", "4"}};
  w.q = HostTensor(Dtype::f32, {kRows, 2, 32});
  w.ks = {0, 0, 8, 8};
  w.ke = {3, 8, 9, 12};
  return w;
}

RawFile selection_file() {
  RawFile file;
  file.metadata = {{"format", "misa-trace/1"}, {"kind", "selection"}, {"index_n_heads", "2"}, {"block_size", "4"}};
  file.integers("ks", {2}, {0, 8});
  file.integers("ke", {2}, {8, 12});
  file.integers("out.topk", {2, 3}, {0, 3, 7, 1, -1, -1});
  file.integers("out.heads", {2, 2}, {1, 0, 1, -1});
  file.integers("out.blocks", {2, 2}, {0, 1, 0, -1});
  return file;
}

Outcome selection_outcome(const RawFile& file) {
  const TemporaryPath temporary;
  file.write(temporary.path);
  return outcome_of([&] { (void)read_selection(temporary.path); });
}

}  // namespace

TEST_CASE("the first choice that differs in a bit is named") {
  Selection a, b;
  const std::vector<i32> tokens{0, 1, 2, 3};
  a[Choice::tokens] = HostTensor::from<i32>(tokens, {2, 2});
  b[Choice::tokens] = a[Choice::tokens].copy();
  CHECK_FALSE(first_difference(a, b));
  for (const Choice choice : kChoices) {
    CAPTURE(choice_name(choice));
    Selection other;
    for (const Choice same : kChoices) other[same] = a[same].copy();
    other[choice] = HostTensor::from<i32>(std::vector<i32>{0, 1, 2, 4}, {2, 2});
    CHECK(first_difference(a, other) == choice);
    CHECK(first_difference(other, a) == choice);
    if (choice != Choice::heads) {
      other[Choice::heads] = HostTensor(Dtype::int32, {2, 1});
      CHECK(first_difference(a, other) == Choice::heads);
    }
  }
  // The same numbers in another shape are not the same.
  b[Choice::tokens] = HostTensor::from<i32>(tokens, {1, 4});
  CHECK(first_difference(a, b) == Choice::tokens);
}

TEST_CASE("a selection is written with its workload's windows and read back") {
  const TemporaryPath path;
  Workload w = workload_of_rows();
  Selection selection;
  const std::vector<i32> tokens{0, 1, 2, 1, 5, 7, 0, -1, -1, 0, 2, 3}, heads{0, 1, 1, 0};
  selection[Choice::tokens] = HostTensor::from<i32>(tokens, {kRows, 3});
  selection[Choice::heads] = HostTensor::from<i32>(heads, {kRows, 1});
  write_selection(path.path, w, selection,
                  {{"indexer", "misa"}, {"format", "ignored"}, {"provenance", "real-checkpoint"}});
  const SelectionFile back = read_selection(path.path);
  CHECK_FALSE(first_difference(back.selection, selection));
  CHECK(back.ks == w.ks);
  CHECK(back.ke == w.ke);
  CHECK(back.metadata.at("format") == "misa-trace/1");
  CHECK(back.metadata.at("kind") == "selection");
  CHECK(back.metadata.at("indexer") == "misa");
  CHECK(back.metadata.at("provenance") == "real-checkpoint");
  CHECK(back.metadata.at("index_topk") == "4");
  CHECK_NOTHROW(check_selection_fits(back, w, "test"));

  w.ke[0] = 2;
  CHECK(outcome_of([&] { check_selection_fits(back, w, "test"); }).id == "MP-E252");
  w.ks.pop_back();
  CHECK(outcome_of([&] { check_selection_fits(back, w, "test"); }).id == "MP-E252");
}

TEST_CASE("a selection that is not one is refused, each with its own id") {
  const std::vector<Spoiled> table{
      {"no format", "MP-E201", [](RawFile& f) { f.metadata.erase("format"); }},
      {"a workload", "MP-E203", [](RawFile& f) { f.metadata.erase("kind"); }},
      {"an unknown tensor", "MP-E204", [](RawFile& f) { f.integers("out.tokens", {1}, {0}); }},
      {"no windows", "MP-E205", [](RawFile& f) { f.tensors.erase("ke"); }},
      {"tokens as F32", "MP-E206", [](RawFile& f) { f.tensors["out.topk"].dtype = "F32"; }},
      {"tokens of other rows", "MP-E208",
       [](RawFile& f) {
         f.integers("out.topk", {1, 3}, {0, 3, 7});
       }},
      {"linear queries as I32", "MP-E206",
       [](RawFile& f) {
         f.integers("out.linear", {2, 3}, {0, 0, 0, 0, 0, 0});
       }},
      {"linear queries of other rows", "MP-E208",
       [](RawFile& f) {
         f.integers("out.linear", {1, 3}, {0, 0, 0});
         f.tensors["out.linear"].dtype = "F32";
       }},
      {"linear queries without a weight", "MP-E208",
       [](RawFile& f) {
         f.integers("out.linear", {2, 1}, {0, 0});
         f.tensors["out.linear"].dtype = "F32";
       }},
      {"windows of other rows", "MP-E208", [](RawFile& f) { f.integers("ke", {1}, {8}); }},
      {"no columns", "MP-E212",
       [](RawFile& f) {
         f.integers("out.topk", {2, 0}, {});
       }},
      {"heads of an unknown number", "MP-E213", [](RawFile& f) { f.metadata.erase("index_n_heads"); }},
      {"a block size of none", "MP-E213", [](RawFile& f) { f.metadata["block_size"] = "-4"; }},
      {"a window before the keys", "MP-E230", [](RawFile& f) { f.poke<i32>("ks", 0, -1); }},
      {"a window that runs backwards", "MP-E231", [](RawFile& f) { f.poke<i32>("ke", 1, 7); }},
      {"a token twice", "MP-E240", [](RawFile& f) { f.poke<i32>("out.topk", 1, 0); }},
      {"a head twice", "MP-E240", [](RawFile& f) { f.poke<i32>("out.heads", 0, 0); }},
      {"a block twice", "MP-E240", [](RawFile& f) { f.poke<i32>("out.blocks", 0, 1); }},
      {"a head that does not exist", "MP-E241", [](RawFile& f) { f.poke<i32>("out.heads", 2, 2); }},
      {"a block that does not exist", "MP-E241", [](RawFile& f) { f.poke<i32>("out.blocks", 2, 2); }},
      {"a token of -2", "MP-E241", [](RawFile& f) { f.poke<i32>("out.topk", 3, -2); }},
      {"a token of the future", "MP-E242", [](RawFile& f) { f.poke<i32>("out.topk", 2, 8); }},
      {"a pad in the middle", "MP-E243", [](RawFile& f) { f.poke<i32>("out.topk", 1, -1); }},
      {"nothing recorded", "MP-E250",
       [](RawFile& f) {
         for (const char* name : {"out.topk", "out.heads", "out.blocks"}) f.tensors.erase(name);
       }},
      {"tokens that do not ascend", "MP-E251",
       [](RawFile& f) { f.poke<i32>("out.topk", 1, 7), f.poke<i32>("out.topk", 2, 3); }},
      {"blocks that do not ascend", "MP-E251",
       [](RawFile& f) { f.poke<i32>("out.blocks", 0, 1), f.poke<i32>("out.blocks", 1, 0); }},
  };
  testing::check_table(table, selection_file(), selection_outcome);
}

TEST_CASE("a selection with windows of absurd length costs no memory") {
  RawFile file = selection_file();
  file.poke<i32>("ke", 0, std::numeric_limits<i32>::max());
  CHECK(selection_outcome(file).message == "");
}

}  // namespace misa
