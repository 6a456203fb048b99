#include <cublasLt.h>

#include <algorithm>
#include <string>

#include "backends/cuda/device.hpp"
#include "backends/cuda/graph.hpp"
#include "core/platform/library.hpp"

namespace misa::cuda {
namespace {

constexpr i64 kWorkspace = 64 << 20;

/// cuBLASLt, loaded when it is first used: without it the program starts and lacks this roof alone.
struct CublasLt {
  decltype(&cublasLtCreate) create = nullptr;
  decltype(&cublasLtMatmulDescCreate) make_product = nullptr;
  decltype(&cublasLtMatmulDescSetAttribute) set_product = nullptr;
  decltype(&cublasLtMatrixLayoutCreate) make_layout = nullptr;
  decltype(&cublasLtMatmulPreferenceCreate) make_preference = nullptr;
  decltype(&cublasLtMatmulPreferenceSetAttribute) set_preference = nullptr;
  decltype(&cublasLtMatmulAlgoGetHeuristic) choose = nullptr;
  decltype(&cublasLtMatmul) multiply = nullptr;
  decltype(&cublasLtMatmulDescDestroy) drop_product = nullptr;
  decltype(&cublasLtMatrixLayoutDestroy) drop_layout = nullptr;
  decltype(&cublasLtMatmulPreferenceDestroy) drop_preference = nullptr;
  cublasLtHandle_t handle = nullptr;

  bool load() {
    const std::string name = "libcublasLt.so." + std::to_string(CUDART_VERSION / 1000);
    auto library = Library::open(name.c_str());
    if (!library) library = Library::open((MISA_CUDA_LIBRARIES "/" + name).c_str());
    return library && library->find("cublasLtCreate", create) &&
           library->find("cublasLtMatmulDescCreate", make_product) &&
           library->find("cublasLtMatmulDescSetAttribute", set_product) &&
           library->find("cublasLtMatrixLayoutCreate", make_layout) &&
           library->find("cublasLtMatmulPreferenceCreate", make_preference) &&
           library->find("cublasLtMatmulPreferenceSetAttribute", set_preference) &&
           library->find("cublasLtMatmulAlgoGetHeuristic", choose) && library->find("cublasLtMatmul", multiply) &&
           library->find("cublasLtMatmulDescDestroy", drop_product) &&
           library->find("cublasLtMatrixLayoutDestroy", drop_layout) &&
           library->find("cublasLtMatmulPreferenceDestroy", drop_preference) &&
           create(&handle) == CUBLAS_STATUS_SUCCESS;
  }
};

/// How a dtype is multiplied. `keep` and `set` make random words into numbers of magnitude 0.5 to 2.
struct Kind {
  Dtype dtype;
  cudaDataType in, out;
  i64 size;
  u32 keep, set;
};
constexpr Kind kKinds[] = {{Dtype::e4m3, CUDA_R_8F_E4M3, CUDA_R_16BF, 8192, 0x8F8F8F8Fu, 0x30303030u},
                           {Dtype::bf16, CUDA_R_16BF, CUDA_R_16BF, 8192, 0x80FF80FFu, 0x3F003F00u},
                           {Dtype::f32, CUDA_R_32F, CUDA_R_32F, 4096, 0x80FFFFFFu, 0x3F000000u}};

/// C = A^T B, and how cuBLASLt would compute it.
struct Product {
  const CublasLt& lt;
  cublasLtMatmulDesc_t product = nullptr;
  cublasLtMatrixLayout_t in = nullptr, out = nullptr;
  cublasLtMatmulPreference_t preference = nullptr;
  cublasLtMatmulHeuristicResult_t found{};
  bool ready = false;

  Product(const CublasLt& library, const Kind& kind) : lt(library) {
    const auto good = [](cublasStatus_t status) { return status == CUBLAS_STATUS_SUCCESS; };
    const cublasOperation_t transposed = CUBLAS_OP_T;  // the only form that FP8 has: both rows run along the sum
    const int8_t fast = kind.dtype == Dtype::e4m3;     // as our FP8 kernels: sums stay in the tensor core
    const u64 side = static_cast<u64>(kind.size), limit = kWorkspace;
    int count = 0;
    ready = good(lt.make_product(&product, CUBLAS_COMPUTE_32F, CUDA_R_32F)) &&
            good(lt.set_product(product, CUBLASLT_MATMUL_DESC_TRANSA, &transposed, sizeof transposed)) &&
            good(lt.set_product(product, CUBLASLT_MATMUL_DESC_FAST_ACCUM, &fast, sizeof fast)) &&
            good(lt.make_layout(&in, kind.in, side, side, kind.size)) &&
            good(lt.make_layout(&out, kind.out, side, side, kind.size)) && good(lt.make_preference(&preference)) &&
            good(lt.set_preference(preference, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, &limit, sizeof limit)) &&
            good(lt.choose(lt.handle, product, in, in, out, out, preference, 1, &found, &count)) && count == 1;
  }
  ~Product() {
    if (preference != nullptr) lt.drop_preference(preference);
    if (out != nullptr) lt.drop_layout(out);
    if (in != nullptr) lt.drop_layout(in);
    if (product != nullptr) lt.drop_product(product);
  }
  Product(const Product&) = delete;
  Product& operator=(const Product&) = delete;
};

}  // namespace

double gemm_flops_per_second(Dtype dtype, Allocator& device, cudaStream_t stream) {
  static CublasLt lt;
  static const bool loaded = lt.load();
  const Kind* kind =
      std::find_if(std::begin(kKinds), std::end(kKinds), [&](const Kind& k) { return k.dtype == dtype; });
  if (!loaded || kind == std::end(kKinds)) return 0;
  const i64 size = kind->size, bytes = dtype_bytes(dtype, size * size);
  const i64 out_bytes = size * size * (kind->out == CUDA_R_32F ? 4 : 2);
  const Buffer a(device, bytes), b(device, bytes), c(device, out_bytes), workspace(device, kWorkspace);
  fill_memory(a.data(), bytes, kind->keep, kind->set, stream);
  fill_memory(b.data(), bytes, kind->keep, kind->set, stream);

  const Product product(lt, *kind);
  if (!product.ready) return 0;

  const float one = 1, zero = 0;
  const auto side = static_cast<double>(size);
  return best_rate(stream, 2.0 * side * side * side, [&] {
    return lt.multiply(lt.handle, product.product, &one, a.data(), product.in, b.data(), product.in, &zero, c.data(),
                       product.out, c.data(), product.out, &product.found.algo, workspace.data(), kWorkspace,
                       stream) == CUBLAS_STATUS_SUCCESS;
  });
}

}  // namespace misa::cuda
