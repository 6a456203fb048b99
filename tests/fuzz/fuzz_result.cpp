// Whatever the bytes, the reader of results refuses them with Error(input) or gives a document that can be asked.

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <string_view>

#include "core/base/error.hpp"
#include "core/report/result_file.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using misa::ResultKind;
  try {
    const misa::ResultFile file =
        misa::parse_result({reinterpret_cast<const char*>(data), size}, "input",
                           {ResultKind::result, ResultKind::agreement, ResultKind::sweep, ResultKind::niah}, true);
    for (const misa::Json& one : misa::array_at(file.document, "cases")) {
      (void)misa::numbers_at(one, "end_to_end_ns.raw");
      (void)misa::count_at(one, "parameters.top_k");
      (void)misa::text_at(one, "indexer");
    }
    if (file.document.is_object() && misa::text_at(file.document, "schema")) return 0;
  } catch (const misa::Error& error) {
    if (error.kind() == misa::ErrorKind::input && error.id().substr(0, 6) == "MP-E48") return 0;
  }
  std::fputs("broken: a result is a document or is refused as input\n", stderr);
  std::abort();
}
