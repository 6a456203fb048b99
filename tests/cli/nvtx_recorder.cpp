// A profiler of its own: NVTX loads it from NVTX_INJECTION64_PATH, and it writes what it is told to the file that
// MISA_NVTX_RECORD names, a line each:
//   domain NAME    string DOMAIN TEXT    push DOMAIN TEXT    pop DOMAIN
// A range whose name is no registered string of its domain is "push DOMAIN ?".

#include <nvtx3/nvToolsExt.h>

#include <cstdio>
#include <cstdlib>
#include <deque>
#include <string>

namespace {

struct Text {
  std::string domain, text;
};

// NVTX's handles are addresses of these.
std::deque<Text> domains, strings;

void write(const std::string& line) {
  static std::FILE* file = [] {
    const char* path = std::getenv("MISA_NVTX_RECORD");
    return path == nullptr ? nullptr : std::fopen(path, "w");
  }();
  if (file == nullptr) return;
  std::fputs((line + "\n").c_str(), file);
  std::fflush(file);
}

const std::string& name_of(nvtxDomainHandle_t domain) { return reinterpret_cast<const Text*>(domain)->text; }

nvtxDomainHandle_t NVTX_API create(const char* name) {
  write(std::string("domain ") + name);
  return reinterpret_cast<nvtxDomainHandle_t>(&domains.emplace_back(Text{{}, name}));
}

nvtxStringHandle_t NVTX_API register_string(nvtxDomainHandle_t domain, const char* text) {
  write("string " + name_of(domain) + " " + text);
  return reinterpret_cast<nvtxStringHandle_t>(&strings.emplace_back(Text{name_of(domain), text}));
}

int NVTX_API push(nvtxDomainHandle_t domain, const nvtxEventAttributes_t* event) {
  const auto* text = reinterpret_cast<const Text*>(event->message.registered);
  const bool known = event->messageType == NVTX_MESSAGE_TYPE_REGISTERED && text->domain == name_of(domain);
  write("push " + name_of(domain) + " " + (known ? text->text : "?"));
  return 0;
}

int NVTX_API pop(nvtxDomainHandle_t domain) {
  write("pop " + name_of(domain));
  return 0;
}

}  // namespace

extern "C" NVTX_DYNAMIC_EXPORT int InitializeInjectionNvtx2(NvtxGetExportTableFunc_t table_of) {
  const auto* callbacks = static_cast<const NvtxExportTableCallbacks*>(table_of(NVTX_ETID_CALLBACKS));
  NvtxFunctionTable table = nullptr;
  unsigned size = 0;
  if (callbacks == nullptr || callbacks->GetModuleFunctionTable(NVTX_CB_MODULE_CORE2, &table, &size) == 0) return 0;
  if (size <= NVTX_CBID_CORE2_DomainCreateA) return 0;
  *table[NVTX_CBID_CORE2_DomainCreateA] = reinterpret_cast<NvtxFunctionPointer>(create);
  *table[NVTX_CBID_CORE2_DomainRegisterStringA] = reinterpret_cast<NvtxFunctionPointer>(register_string);
  *table[NVTX_CBID_CORE2_DomainRangePushEx] = reinterpret_cast<NvtxFunctionPointer>(push);
  *table[NVTX_CBID_CORE2_DomainRangePop] = reinterpret_cast<NvtxFunctionPointer>(pop);
  return 1;
}
