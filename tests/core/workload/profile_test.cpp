#include "core/workload/profile.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <filesystem>
#include <fstream>

#include "core/base/error.hpp"
#include "core/base/suggest.hpp"

namespace misa {
namespace {

const std::string kModel =
    "name = \"m\"\n"
    "description = \"d\"\n"
    "source = \"s\"\n"
    "heads = 8\n"
    "head_dim = 64\n"
    "top_k = 16\n"
    "key_dtype = \"e4m3\"\n";

const std::string kHead =
    "name = \"w\"\n"
    "description = \"d\"\n"
    "source = \"s\"\n";

const std::vector<std::string> kShipped = {MISA_SOURCE_DIR "/profiles"};

struct Refusal {
  std::string id, what, where, how;
};

template <class Call>
Refusal refusal(const Call& call) {
  try {
    call();
  } catch (const Error& error) {
    CHECK(error.kind() == ErrorKind::usage);
    return {error.id(), error.what(), error.where(), error.how()};
  }
  FAIL("accepted");
  return {};
}

void check_model(const std::string& text, const char* id, const char* what, const char* where, const char* how) {
  const Refusal r = refusal([&] { parse_model(text, "m.toml"); });
  CHECK(r.id == id);
  CHECK(r.what == what);
  CHECK(r.where == where);
  CHECK(r.how == how);
}

void check_workload(const std::string& text, const char* id, const char* what, const char* where, const char* how) {
  const Refusal r = refusal([&] { parse_workload(text, "w.toml"); });
  CHECK(r.id == id);
  CHECK(r.what == what);
  CHECK(r.where == where);
  CHECK(r.how == how);
}

}  // namespace

TEST_CASE("a model profile gives its values") {
  const ModelProfile model = parse_model(kModel + "layers = 10\nindexer_layers = 3\n", "m.toml");
  CHECK(model.name == "m");
  CHECK(model.heads == 8);
  CHECK(model.head_dim == 64);
  CHECK(model.top_k == 16);
  CHECK(model.format == ValueFormat::e4m3);
  CHECK(model.layers == 10);
  CHECK(model.indexer_layers == 3);
}

TEST_CASE("a prefill profile gives its values") {
  const WorkloadProfile w = parse_workload(kHead +
                                               "phase = \"prefill\"\ncontexts = [300, 400]\nrows = 20\nspread = true\n"
                                               "preset = \"diffuse\"\n[knobs]\ntopic = 0.5\nsinks = 0\n"
                                               "[needles]\ndepths = [0, 0.5]\nlength = 8\nmode = \"top\"\ngain = 2\n",
                                           "w.toml");
  CHECK(w.phase == Phase::prefill);
  CHECK(w.contexts == std::vector<i64>{300, 400});
  CHECK(w.rows == 20);
  CHECK(w.spread);
  CHECK(w.preset == "diffuse");
  REQUIRE(w.knobs.has_value());
  CHECK(w.knobs->topic == 0.5);
  CHECK(w.knobs->sinks == 0);
  CHECK(w.knobs->agree == 0.0);  // the preset's
  REQUIRE(w.needles.has_value());
  CHECK(w.needles->depths == std::vector<double>{0, 0.5});
  CHECK(w.needles->length == 8);
  CHECK(w.needles->mode == NeedleMode::top);
  CHECK(w.needles->gain == 2.0);
}

TEST_CASE("a decode profile gives its values") {
  const WorkloadProfile w = parse_workload(
      kHead + "phase = \"decode\"\nragged = [0, 900]\nsequences = 7\nnext_n = 3\npage_size = 32\n", "w.toml");
  CHECK(w.phase == Phase::decode);
  REQUIRE(w.ragged.has_value());
  CHECK(w.next_n == 3);
  CHECK(w.page_size == 32);
  const SyntheticRequest one = make_request(parse_model(kModel, "m"), w, 1);
  const SyntheticRequest two = make_request(parse_model(kModel, "m"), w, 2);
  CHECK(one.contexts.size() == 7);
  CHECK(one.contexts != two.contexts);
  CHECK(one.name == "m/w");
  CHECK(one.format == ValueFormat::e4m3);
  CHECK(one.heads == 8);
}

TEST_CASE("a number of needles spreads their depths") {
  const std::string text = kHead + "phase = \"prefill\"\ncontext = 4000\n[needles]\ncount = ";
  CHECK(parse_workload(text + "3\n", "w").needles->depths == std::vector<double>{0, 0.5, 1});
  CHECK(parse_workload(text + "1\n", "w").needles->depths == std::vector<double>{0.5});
}

TEST_CASE("syntax errors name the line and column") {
  const Refusal r = refusal([] { parse_model("name = \"m\"\nheads = = 3\n", "m.toml"); });
  CHECK(r.id == "MP-E302");
  CHECK(r.where.find("m.toml:2:") == 0);
  const Refusal twice = refusal([] { parse_model("name = \"m\"\nname = \"n\"\n", "m.toml"); });
  CHECK(twice.id == "MP-E302");
  CHECK(twice.where.find("m.toml:2:") == 0);
  CHECK(refusal([] { parse_model(std::string("name = \"\xff\""), "m.toml"); }).id == "MP-E302");
  CHECK(refusal([] { parse_model("[,b", "m.toml"); }).id == "MP-E302");
  CHECK(refusal([] { parse_model(std::string((1 << 20) + 1, '#'), "m.toml"); }).id == "MP-E302");
}

TEST_CASE("characters outside ASCII may stand in comments and strings and nowhere else") {
  CHECK(parse_config("a = \"\xc3\x84\" # \xc3\x84 '\nb = '\xc3\x84'\n", "c").size() == 2);
  CHECK(parse_config("a = \"x\\\"\xc3\x84\"\n", "c")[0].values[0] == "x\"\xc3\x84");
  CHECK(parse_config("a = \"\"\nb = \"\"\"\n\"\"\"\n", "c").size() == 2);
  CHECK(parse_config("a = \"\"\"x\\\n y\xc3\x84\n\xc3\x84\"\"\"\n", "c")[0].values[0] == "xy\xc3\x84\n\xc3\x84");
  CHECK(parse_config("a = '''\n \xc3\x84'''\n", "c")[0].values[0] == " \xc3\x84");
  CHECK(parse_config("\xef\xbb\xbf# with a byte order mark\na = 1\n", "c").size() == 1);
  const Refusal broken = refusal([] { parse_config("b = 1\na = \"\"\"\\\n \xc3\x84\"\"\"\n", "c.toml"); });
  CHECK(broken.id == "MP-E302");
  CHECK(broken.where == "c.toml:3:2");
  const Refusal key = refusal([] { parse_config("a = 1\n \xc3\x84 = 1\n", "c.toml"); });
  CHECK(key.id == "MP-E302");
  CHECK(key.where == "c.toml:2:2");
  for (const char* text :
       {"a = 1\xc3\x84", "a = 7{'6*\xc9\xbe", "a\xc3\x84 = 1", "[\xc3\x84]", "a = [1 \xd0\x96]", "a = 1\xc2\xa0",
        "a = \"\\\xc3\x84\"", "a = \"\"\"\\ \xc3\x84\"\"\"", "a = \"\x80\"", "\x80"}) {
    CAPTURE(text);
    CHECK(refusal([&] { parse_config(text, "c.toml"); }).id == "MP-E302");
  }
}

TEST_CASE("unknown keys are refused with line, column and the nearest name") {
  check_model(kModel + "hed_dim = 64\n", "MP-E303", "unknown key 'hed_dim'", "m.toml:8:1", "head_dim");
  check_workload(kHead + "phase = \"prefill\"\n  contxt = 100\n", "MP-E303", "unknown key 'contxt'", "w.toml:5:3",
                 "context");
  check_workload(kHead + "phase = \"prefill\"\ncontext = 1000\n[knobs]\ntopc = 1\n", "MP-E303",
                 "unknown key 'topc' in [knobs]", "w.toml:7:1", "topic");
  check_workload(kHead + "[needle]\ncount = 1\n", "MP-E303", "unknown key 'needle'", "w.toml:4:2", "needles");
  check_workload(kHead + "phase = \"prefill\"\ncontext = 1000\n[needles]\nzzz = 1\n", "MP-E303",
                 "unknown key 'zzz' in [needles]", "w.toml:7:1", "one of count, depths, length, mode, gain");
  check_model(kModel + "\"a\\nb\" = 1\n", "MP-E303", "unknown key 'a?b'", "m.toml:8:1",
              "one of name, description, source, heads, head_dim, top_k, key_dtype, layers, indexer_layers, "
              "compress_ratio, force_first, force_last");
}

TEST_CASE("wrong types are refused") {
  check_model(kModel + "layers = \"61\"\n", "MP-E304", "layers is a string", "m.toml:8:10", "an integer");
  check_model(kModel + "layers = 0x10\n", "MP-E304", "layers is not decimal", "m.toml:8:10", "16");
  check_model(kModel + "layers = 1.0\n", "MP-E304", "layers is a float", "m.toml:8:10", "an integer");
  check_workload(kHead + "phase = \"prefill\"\ncontexts = 5\n", "MP-E304", "contexts is an integer", "w.toml:5:12",
                 "an array");
  check_workload(kHead + "phase = \"prefill\"\ncontexts = [5, true]\n", "MP-E304", "contexts is a boolean",
                 "w.toml:5:16", "an integer");
  check_workload(kHead + "phase = \"prefill\"\ncontext = 500\nspread = 1\n", "MP-E304", "spread is an integer",
                 "w.toml:6:10", "true or false");
  check_workload(kHead + "phase = \"prefill\"\ncontext = 500\nknobs = 1\n", "MP-E304", "knobs is an integer",
                 "w.toml:6:9", "a section [knobs]");
  check_workload(kHead + "phase = \"prefill\"\ncontext = 500\n[knobs]\ntopic = \"x\"\n", "MP-E304", "topic is a string",
                 "w.toml:7:9", "a number");
  check_workload("name = 3\n", "MP-E304", "name is an integer", "w.toml:1:8", "a string");
}

TEST_CASE("values out of range are refused") {
  const std::string prefill = kHead + "phase = \"prefill\"\ncontext = 500\n";
  check_workload(kHead + "phase = \"prefil\"\n", "MP-E305", "phase is 'prefil'", "w.toml:4:9", "prefill");
  check_workload(prefill + "preset = \"difuse\"\n", "MP-E305", "preset is 'difuse'", "w.toml:6:10", "diffuse");
  check_workload(prefill + "rows = 0\n", "MP-E305", "rows is 0", "w.toml:6:8", "a value from 1 to 131072");
  check_workload(prefill + "[knobs]\nagree = nan\n", "MP-E305", "agree is nan", "w.toml:7:9", "a value from 0 to 1");
  check_workload(prefill + "[knobs]\nrank = 65\n", "MP-E305", "rank is 65", "w.toml:7:8", "a value from 1 to 64");
  check_workload(prefill + "[needles]\ndepths = []\n", "MP-E305", "depths has 0 values", "w.toml:7:10",
                 "1 to 1024 values");
  check_workload(kHead + "phase = \"decode\"\nragged = [9, 5]\n", "MP-E305", "ragged is [9, 5]", "w.toml:5:10",
                 "[shortest, longest]");
  check_workload(kHead + "phase = \"decode\"\nragged = [9]\n", "MP-E305", "ragged is [9]", "w.toml:5:10",
                 "[shortest, longest]");
  std::string text = kModel;
  text.replace(text.find("64"), 2, "96");
  check_model(text, "MP-E305", "head_dim is 96", "m.toml:5:12", "32, 64, 128 or 256");
  check_model("name = \"\"\n", "MP-E305", "name is ''", "m.toml:1:8",
              "1 to 64 characters, none of them a control character");
}

TEST_CASE("missing keys are named") {
  check_model("name = \"m\"\ndescription = \"d\"\n", "MP-E306", "'source' is missing", "m.toml:1:1",
              "add source = ...");
  check_model("", "MP-E306", "'name' is missing", "m.toml:1:1", "add name = ...");
  check_workload(kHead, "MP-E306", "'phase' is missing", "w.toml:1:1", "add phase = ...");
  check_workload(kHead + "phase = \"decode\"\n", "MP-E306", "'context' is missing", "w.toml:1:1", "add context = ...");
  check_workload(kHead + "phase = \"decode\"\ncontext = 900\n[needles]\nlength = 3\n", "MP-E306", "'depths' is missing",
                 "w.toml:6:1", "add depths = ...");
}

TEST_CASE("keys that contradict each other are refused") {
  const std::string decode = kHead + "phase = \"decode\"\ncontext = 500\n";
  check_workload(decode + "contexts = [1]\n", "MP-E307", "'context' and 'contexts' exclude each other", "w.toml:5:11",
                 "remove 'context'");
  check_workload(decode + "ragged = [1, 2]\n", "MP-E307", "'context' and 'ragged' exclude each other", "w.toml:5:11",
                 "remove 'context'");
  check_workload(decode + "rows = 5\n", "MP-E307", "'rows' has no meaning at decode", "w.toml:6:8", "remove 'rows'");
  check_workload(kHead + "phase = \"prefill\"\ncontext = 500\nnext_n = 2\n", "MP-E307",
                 "'next_n' has no meaning at prefill", "w.toml:6:10", "remove 'next_n'");
}

TEST_CASE("profiles whose parts do not fit together are refused") {
  check_workload(kHead + "phase = \"prefill\"\ncontext = 100\n", "MP-E308", "rows is 128", "w.toml:5:11",
                 "a value from 1 to 100");
  check_workload(kHead + "phase = \"decode\"\ncontext = 67108864\nsequences = 2\n", "MP-E308",
                 "the number of key slots is 150995008", "w.toml:5:11", "a value from 1 to 67108864");
}

TEST_CASE("rows can be changed at prefill only") {
  const ModelProfile model = parse_model(kModel, "m");
  const WorkloadProfile prefill = parse_workload(kHead + "phase = \"prefill\"\ncontext = 500\n", "w");
  CHECK(make_request(model, prefill, 1).rows == 128);
  CHECK(make_request(model, changed(prefill, {.rows = 7}), 1).rows == 7);
  CHECK(changed(prefill, {.rows = 7}).name == prefill.name);
  CHECK(refusal([&] { make_request(model, changed(prefill, {.rows = 501}), 1); }).id == "MP-E308");
  const WorkloadProfile decode = parse_workload(kHead + "phase = \"decode\"\ncontext = 500\n", "w");
  CHECK(refusal([&] { changed(decode, {.rows = 7}); }).id == "MP-E307");
}

TEST_CASE("a workload's length, sequences and phase can be changed, and its name says so") {
  const WorkloadProfile prefill = parse_workload(kHead + "phase = \"prefill\"\ncontext = 500\n", "w");
  const WorkloadProfile longer = changed(prefill, {.context = 16384, .sequences = 3});
  CHECK(longer.contexts == std::vector<i64>{16384, 16384, 16384});
  CHECK(longer.name == prefill.name + ",sequences=3,context=16384");
  CHECK(longer.rows == 128);
  CHECK(changed(prefill, {.context = 100}).rows == 100);
  const WorkloadProfile drafts = changed(prefill, {.phase = Phase::decode, .next_n = 2, .page_size = 16});
  CHECK(drafts.phase == Phase::decode);
  CHECK(drafts.next_n == 2);
  CHECK(drafts.page_size == 16);
  CHECK(drafts.contexts == std::vector<i64>{500});
  CHECK(refusal([&] { changed(prefill, {.next_n = 2}); }).id == "MP-E307");
  CHECK(refusal([&] { changed(prefill, {.page_size = 2}); }).id == "MP-E307");
  CHECK(refusal([&] { changed(prefill, {.sequences = 4097}); }).id == "MP-E308");

  const std::string decode = kHead + "phase = \"decode\"\n";
  const WorkloadProfile listed = parse_workload(decode + "contexts = [5, 9]\n", "w");
  CHECK(refusal([&] { changed(listed, {.sequences = 2}); }).id == "MP-E307");
  CHECK(changed(listed, {.context = 7}).contexts == std::vector<i64>{7, 7});
  CHECK(changed(listed, {.context = 7, .sequences = 1}).contexts == std::vector<i64>{7});
  const WorkloadProfile ragged = parse_workload(decode + "ragged = [5, 9]\nsequences = 4\n", "w");
  CHECK(changed(ragged, {.sequences = 6}).ragged.has_value());
  CHECK(changed(ragged, {.sequences = 6}).sequences == 6);
  CHECK(changed(ragged, {.context = 7}).contexts == std::vector<i64>(4, 7));
  CHECK_FALSE(changed(ragged, {.context = 7}).ragged.has_value());
}

TEST_CASE("tokens of a key are the model's, unless the workload or the command line says another number") {
  const std::string prefill = kHead + "phase = \"prefill\"\ncontext = 500\n";
  const ModelProfile plain = parse_model(kModel, "m"), four = parse_model(kModel + "compress_ratio = 4\n", "m");
  const WorkloadProfile any = parse_workload(prefill, "w"), two = parse_workload(prefill + "compress_ratio = 2\n", "w");
  CHECK(make_request(plain, any, 1).compress_ratio == 1);
  CHECK(make_request(four, any, 1).compress_ratio == 4);
  CHECK(make_request(four, two, 1).compress_ratio == 2);
  const WorkloadProfile one = changed(two, {.compress_ratio = 1});
  CHECK(one.name == "w,compress_ratio=1");
  CHECK(make_request(four, one, 1).compress_ratio == 1);
  CHECK(generate(make_request(four, any, 1)).keys() == 125);
  check_model(kModel + "compress_ratio = 0\n", "MP-E305", "compress_ratio is 0", "m.toml:8:18",
              "a value from 1 to 1024");
  check_workload(prefill + "compress_ratio = 600\n", "MP-E308", "no sequence is as long as an entry of 600 tokens",
                 "w.toml:5:11", "a longer context, or a smaller compress_ratio");
  CHECK(load_model("deepseek-v4-flash", kShipped).compress_ratio == 4);
}

TEST_CASE("a workload of one's own needs no name, description or source") {
  const WorkloadProfile own = parse_workload("phase = \"prefill\"\ncontext = 500\n", "some/where/mine.toml");
  CHECK(own.name == "mine");
  CHECK(own.description.empty());
}

TEST_CASE("all shipped profiles load, say where they come from and are called as their files") {
  const std::vector<ModelProfile> models = list_models(kShipped);
  const std::vector<WorkloadProfile> workloads = list_workloads(kShipped);
  CHECK(models.size() >= 5);
  CHECK(workloads.size() >= 7);
  for (const ModelProfile& model : models) {
    CAPTURE(model.name);
    CHECK(load_model(model.name, kShipped).source == model.source);
    CHECK_FALSE(model.description.empty());
    for (const WorkloadProfile& workload : workloads) CHECK_NOTHROW(make_request(model, workload, 1));
  }
  for (const WorkloadProfile& workload : workloads)
    CHECK(load_workload(workload.name, kShipped).source == workload.source);
  CHECK(load_model("deepseek-v3.2", kShipped).heads == 64);
  CHECK(load_model("glm-5.2", kShipped).indexer_layers == 21);
}

TEST_CASE("the smallest shipped pair generates") {
  const Workload w = generate(make_request(load_model("tiny", kShipped), load_workload("ci", kShipped), 1));
  CHECK(w.name == "tiny/ci");
  CHECK(w.rows() == 16);
  CHECK(w.keys() == 1536);
}

TEST_CASE("names are looked up, paths are read") {
  const std::string path = MISA_SOURCE_DIR "/profiles/models/tiny.toml";
  CHECK(load_model(path, {}).name == "tiny");
  const Refusal typo = refusal([] { load_model("deepsek-v3.2", kShipped); });
  CHECK(typo.id == "MP-E301");
  CHECK(typo.what == "there is no model 'deepsek-v3.2'");
  CHECK(typo.how == "deepseek-v3.2");
  const Refusal far = refusal([] { load_workload("zzzzzz", kShipped); });
  CHECK(far.how.find("one of ci, ") == 0);
  CHECK(refusal([] { load_workload("ci", {}); }).how == "a path to a .toml file");
  CHECK_THROWS_AS(load_model("./not-there.toml", {}), Error);
}

TEST_CASE("the first directory that has a name wins, missing directories are skipped") {
  const std::filesystem::path own = std::filesystem::temp_directory_path() / "misa-profile-test";
  std::filesystem::create_directories(own / "models");
  std::ofstream(own / "models" / "tiny.toml") << kModel;
  const std::vector<std::string> directories = {"/nonexistent", own.string(), kShipped[0]};
  CHECK(load_model("tiny", directories).name == "m");
  CHECK(list_models(directories).size() == list_models(kShipped).size());
  std::filesystem::remove_all(own);
}

TEST_CASE("option files keep the order and spell values as a command line does") {
  const std::vector<ConfigEntry> entries =
      parse_config("zeta = \"x\"\nalpha = [1, \"b\", 0.25]\n  flag = true\nreal = 1e3\nnone = []\n", "c.toml");
  REQUIRE(entries.size() == 5);
  CHECK(entries[0].key == "zeta");
  CHECK(entries[0].values == std::vector<std::string>{"x"});
  CHECK(entries[1].key == "alpha");
  CHECK(entries[1].values == std::vector<std::string>{"1", "b", "0.25"});
  CHECK(entries[2].values == std::vector<std::string>{"true"});
  CHECK(location("c.toml", entries[2]) == "c.toml:3:3");
  CHECK(entries[3].values == std::vector<std::string>{"1000.0"});
  CHECK(entries[4].values.empty());
  for (const char* number : {"0x10", "0o20", "0b10000", "[1, 0x10]"}) {
    CAPTURE(number);
    const Refusal other = refusal([&] { parse_config("a = " + std::string(number) + "\n", "c.toml"); });
    CHECK(other.id == "MP-E304");
    CHECK(other.what == "a is not decimal");
    CHECK(other.how == "16");
  }
  CHECK(parse_config("a = 0.00001", "c.toml")[0].values == std::vector<std::string>{"0.00001"});
  CHECK(parse_config("a = 10.0", "c.toml")[0].values == std::vector<std::string>{"10.0"});
  CHECK(refusal([] { parse_config("[a]\nb = 1\n", "c.toml"); }).id == "MP-E304");
  CHECK(refusal([] { parse_config("a = [[1]]\n", "c.toml"); }).where == "c.toml:1:6");
  CHECK(refusal([] { parse_config("a = 2020-01-01\n", "c.toml"); }).what == "a is a date");
}

TEST_CASE("suggestions are near or absent") {
  const std::string_view names[] = {"natural", "learned", "iid", "prefill-128k"};
  CHECK(nearest("natral", names) == "natural");
  CHECK(nearest("antural", names) == "natural");
  CHECK(nearest("prefill", names) == "prefill-128k");
  CHECK(nearest("di", names).empty());
  CHECK(nearest("iod", names) == "iid");
  CHECK(nearest("completely-else", names).empty());
  CHECK(nearest("", names).empty());
  CHECK(nearest("x", std::vector<std::string>{}).empty());
  CHECK(edit_distance("kitten", "sitting") == 3);
  CHECK(edit_distance("ab", "ba") == 1);
}

}  // namespace misa
