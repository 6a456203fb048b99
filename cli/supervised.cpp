#include "cli/supervised.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "cli/isolation.hpp"
#include "cli/output.hpp"
#include "core/base/error.hpp"
#include "core/base/steady_seconds.hpp"
#include "core/experiment/child_words.hpp"
#include "core/platform/file.hpp"
#include "core/platform/private_folder.hpp"
#include "core/platform/shared_note.hpp"

namespace misa::cli {
namespace {

constexpr const char* kStepNote = "/step";
constexpr const char* kWorkNote = "/work";
constexpr const char* kErrorFile = "/error";
constexpr const char* kFailedFile = "/failed.json";
constexpr const char* kWritten = "*";       // in the place of an indexer
constexpr double kInterruptedSeconds = 10;  // to write what was measured

/// "misa" of "misa 12".
std::string indexer_of(const std::string& work) { return work.substr(0, work.find(' ')); }

/// Whether the same piece of work of the plug-in is there for too long.
class Watch {
 public:
  Watch(std::string path, double limit_seconds) : path_(std::move(path)), limit_(limit_seconds) {}

  bool is_stuck() {
    const std::string work = read_note(path_);
    const double now = steady_seconds();
    if (work != work_) since_ = now;
    work_ = work;
    return !work.empty() && work != kWritten && now - since_ >= limit_;
  }

 private:
  std::string path_, work_;
  double limit_, since_ = 0;
};

[[noreturn]] void give_up(const std::string& what, const std::string& where) {
  throw Error(ErrorKind::mismatch, "MP-E422", what, where, "misa-prof compare, which tests each indexer alone");
}

}  // namespace

void supervise(std::string_view backend, const std::vector<std::string>& words, double limit_seconds) {
  nlohmann::json failed = nlohmann::json::object();
  const std::string name(backend);
  while (true) {
    PrivateFolder folder;
    const std::string work_path = folder.file(&kWorkNote[1]), step_path = folder.file(&kStepNote[1]);
    write_text(folder.file(&kFailedFile[1]), failed.dump());
    std::vector<std::string> arguments(words.begin() + 1, words.end());
    arguments.insert(arguments.end(), {"--isolated", folder.path()});
    ChildCommand command = program_again(backend, arguments);
    command.shares_streams = true;
    command.stop_seconds = kInterruptedSeconds;
    command.is_stuck = [watch = Watch(work_path, limit_seconds)]() mutable { return watch.is_stuck(); };
    const ChildResult result = run_child(command);
    if (result.end == ChildEnd::interrupted) throw EndedAs{130};
    std::error_code failure;
    const bool returned = std::filesystem::exists(folder.path() + kErrorFile, failure);
    if (result.end == ChildEnd::exited && !returned) throw EndedAs{result.status};

    const std::string work = read_note(work_path), step = read_note(step_path);
    std::string what = returned ? read_text_file(folder.path() + kErrorFile)
                                : "the plug-in " + ending_words(result, command.words.front(), limit_seconds,
                                                                step.empty() ? step : "in " + step);
    if (work == kWritten) give_up(what + ", after the results were written", name);
    const std::string indexer = indexer_of(work);
    if (indexer.empty() || failed.contains(indexer)) give_up(what + ": nothing was measured", name);
    Progress().say(fmt::format("{}: {}; measuring again without it", indexer, what));
    failed[indexer] = what;
  }
}

struct Supervised::Notes {
  SharedNote step, work;
  i64 works = 0;
};

Supervised::Supervised(const std::string& folder)
    : folder_(folder), notes_(new Notes{SharedNote(folder + kStepNote), SharedNote(folder + kWorkNote)}) {}
Supervised::~Supervised() = default;

std::vector<Refusal> Supervised::failed(std::string_view backend) const {
  std::vector<Refusal> refusals;
  const nlohmann::json failed = nlohmann::json::parse(read_text_file(folder_ + kFailedFile));
  for (const auto& [indexer, reason] : failed.items()) {
    refusals.push_back({indexer, std::string(backend), reason.get<std::string>()});
  }
  return refusals;
}

void Supervised::note_step(std::string_view function) { notes_->step.set(function); }

void Supervised::note_work(std::string_view indexer) {
  notes_->work.set(indexer.empty() ? std::string() : fmt::format("{} {}", indexer, ++notes_->works));
}

void Supervised::note_written() { notes_->work.set(kWritten); }

void Supervised::note_error(const std::string& what) const { write_text(folder_ + kErrorFile, what); }

}  // namespace misa::cli
