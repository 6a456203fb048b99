#include <nvtx3/nvToolsExt.h>

#include "core/ranges/ranges.hpp"

namespace misa {
namespace {

nvtxDomainHandle_t domain() {
  static const nvtxDomainHandle_t handle = nvtxDomainCreateA(kRangeDomain);
  return handle;
}

}  // namespace

RangeName::RangeName(const std::string& text) : registered_(nvtxDomainRegisterStringA(domain(), text.c_str())) {}

void begin_range(const RangeName& name) {
  nvtxEventAttributes_t attributes{};
  attributes.version = NVTX_VERSION;
  attributes.size = NVTX_EVENT_ATTRIB_STRUCT_SIZE;
  attributes.messageType = NVTX_MESSAGE_TYPE_REGISTERED;
  attributes.message.registered = static_cast<nvtxStringHandle_t>(name.registered());
  nvtxDomainRangePushEx(domain(), &attributes);
}

void end_range() { nvtxDomainRangePop(domain()); }

std::optional<std::string> ranges_why_not() { return std::nullopt; }

}  // namespace misa
