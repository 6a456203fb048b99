#include "backends/exported/table.hpp"

#include <new>
#include <utility>

#include "backends/exported/planned.hpp"
#include "backends/exported/tasks.hpp"

namespace misa::exported {
namespace {

i32 status_of(ErrorKind kind) {
  switch (kind) {
    case ErrorKind::usage:
    case ErrorKind::input: return MISA_INVALID;
    case ErrorKind::unavailable: return MISA_UNSUPPORTED;
    default: return MISA_FAILED;
  }
}

/// Puts the backend's work on a caller's stream.
class Visit {
 public:
  Visit(Backend& backend, std::optional<void*> stream) : backend_(backend) { backend_.enter(stream); }
  ~Visit() { backend_.leave(); }
  Visit(const Visit&) = delete;
  Visit& operator=(const Visit&) = delete;

 private:
  Backend& backend_;
};

Shape shape_of(const misa_queries& queries) {
  return {.rows = queries.rows, .heads = queries.heads, .head_dim = queries.dim, .dtype = dtype_of(queries.dtype)};
}

i64 keys_in(const misa_route_task& task) { return task.keys.pages * task.keys.page_size; }

}  // namespace

struct Table::Functions {
  static Table& of(void* self) { return *static_cast<Table*>(self); }

  static i32 accepts(void* self, i32 step, const void* task) {
    bool accepted = false;
    const i32 status = of(self).attempt(std::nullopt, [&] { accepted = of(self).accepts(step, task); });
    return status == MISA_OK && accepted ? 1 : 0;
  }
  static i32 score(void* self, misa_score_task* task, void* stream) {
    return of(self).attempt(stream, [&] { of(self).backend_->score(task_of(known_part(task), Pointers::needed)); });
  }
  static i32 select(void* self, const misa_select_task* task, void* stream) {
    return of(self).attempt(stream, [&] { of(self).backend_->select(task_of(known_part(task), Pointers::needed)); });
  }
  static i32 score_select(void* self, misa_score_task* score, const misa_select_task* select, void* stream) {
    return of(self).attempt(stream, [&] {
      of(self).backend_->score_select(task_of(known_part(score), Pointers::needed),
                                      task_of(known_part(select), Pointers::needed));
    });
  }
  static i32 route(void* self, const misa_route_task* task, void* stream) {
    return of(self).attempt(stream, [&] {
      const misa_route_task known = known_part(task);
      of(self).backend_->rank(task_of(known, keys_in(known), Pointers::needed));
    });
  }
  static i32 plan(void* self, const misa_index_plan* plan, void** planned) {
    return of(self).attempt(std::nullopt, [&] {
      require(planned != nullptr, "planned is null");
      Asked asked = read_plan(known_part(plan));
      of(self).require_able(asked.spec, asked.problem.shape);
      *planned = new Planned(*of(self).backend_, std::move(asked));
    });
  }
  static i32 run(void* self, void* planned, const misa_index_task* task, void* stream) {
    return of(self).attempt(stream, [&] {
      require(planned != nullptr, "planned is null");
      static_cast<Planned*>(planned)->run(known_part(task));
    });
  }
  static void release(void* self, void* planned) {
    of(self).attempt(std::nullopt, [&] { delete static_cast<Planned*>(planned); });
  }
  static const char* error(void* self) { return of(self).error_.c_str(); }
};

Table::Table(std::unique_ptr<Backend> backend, i32 device_type)
    : backend_(std::move(backend)),
      name_("misa-" + std::string(backend_->name())),
      description_(backend_->description()) {
  functions_ = {.size = sizeof(misa_kernel_table),
                .version = MISA_KERNEL_VERSION,
                .device_type = device_type,
                .flags = 0,
                .reserved = 0,
                .name = name_.c_str(),
                .description = description_.c_str(),
                .arithmetic = device_type == MISA_CPU ? "f32-dot" : nullptr,  // of cuda: it depends on the task
                .self = this,
                .accepts = Functions::accepts,
                .score = Functions::score,
                .select = Functions::select,
                .score_select = Functions::score_select,
                .route = Functions::route,
                .plan = Functions::plan,
                .run = Functions::run,
                .release = Functions::release,
                .error = Functions::error,
                .features = MISA_FORCES,
                .reserved_features = 0};
}

template <class Work>
i32 Table::attempt(std::optional<void*> stream, const Work& work) noexcept {
  const std::lock_guard turn(mutex_);
  try {
    error_.clear();
    const Visit visit(*backend_, stream);
    work();
    return MISA_OK;
  } catch (const Error& error) {
    error_ = error.id() + ": " + error.what();
    return status_of(error.kind());
  } catch (const std::bad_alloc&) {
    error_ = "MP-E501: out of memory";
  } catch (const std::exception& error) {
    error_ = std::string("MP-E700: ") + error.what();
  }
  return MISA_FAILED;
}

void Table::require_able(const IndexerSpec& spec, const Shape& shape) const {
  if (const auto reason = backend_->why_not(spec, shape)) {
    throw Error(ErrorKind::unavailable, "MP-E401",
                "backend " + std::string(backend_->name()) + " cannot run this: " + *reason);
  }
}

bool Table::accepts(i32 step, const void* task) {
  const auto able = [&](const misa_queries& queries) { require_able({}, shape_of(queries)); };
  constexpr Pointers kDry = Pointers::may_be_null;
  const auto score = [&](const void* one) {
    const misa_score_task known = known_part(static_cast<const misa_score_task*>(one));
    task_of(known, kDry);
    able(known.queries);
  };
  const auto select = [&](const void* one) { task_of(known_part(static_cast<const misa_select_task*>(one)), kDry); };
  switch (step) {
    case MISA_SCORE: score(task); return true;
    case MISA_SELECT: select(task); return true;
    case MISA_SCORE_SELECT: {
      const void* const* both = static_cast<const void* const*>(task);
      score(both[0]);
      select(both[1]);
      return true;
    }
    case MISA_ROUTE: {
      const misa_route_task known = known_part(static_cast<const misa_route_task*>(task));
      task_of(known, keys_in(known), kDry);
      able(known.queries);
      return true;
    }
    case MISA_INDEX: {
      const Asked asked = read_plan(known_part(static_cast<const misa_index_plan*>(task)));
      require_able(asked.spec, asked.problem.shape);
      return true;
    }
    default: return false;
  }
}

}  // namespace misa::exported
