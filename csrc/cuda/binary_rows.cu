#include "binary_rows.cuh"

#include "launch.h"

namespace sphereface::cuda {

template <typename T>
void binary_update(const MarginProblem<T, SphereFace2>& p, const SoftmaxOptions<T>& s,
                   Matrix<const T> entries, SoftmaxRow* rows, cudaStream_t stream) {
  with_packed(entries, [&](auto packed) {
    binary_update_kernel<T, packed>
        <<<item_blocks(p.x.rows), kSoftmaxThreads, 0, stream>>>(p, s, entries, rows);
  });
}

template <typename T>
void binary_gradient(const MarginProblem<T, SphereFace2>& p, const SoftmaxOptions<T>& s,
                     const MathOf<T>* grad, Matrix<T> entries, cudaStream_t stream) {
  const int64_t tiles = (p.weight.rows + kTile - 1) / kTile;
  with_packed(entries, [&](auto packed) {
    binary_gradient_kernel<T, packed>
        <<<item_blocks(p.x.rows * tiles), kSoftmaxThreads, 0, stream>>>(p, s, grad, entries);
  });
}

#define SPHEREFACE_INSTANTIATE(T)                                                               \
  template void binary_update(const MarginProblem<T, SphereFace2>&, const SoftmaxOptions<T>&,   \
                              Matrix<const T>, SoftmaxRow*, cudaStream_t);                      \
  template void binary_gradient(const MarginProblem<T, SphereFace2>&, const SoftmaxOptions<T>&, \
                                const MathOf<T>*, Matrix<T>, cudaStream_t);
SPHEREFACE_INSTANTIATE(float)
SPHEREFACE_INSTANTIATE(double)
SPHEREFACE_INSTANTIATE(__half)
SPHEREFACE_INSTANTIATE(__nv_bfloat16)
#undef SPHEREFACE_INSTANTIATE

}  // namespace sphereface::cuda
