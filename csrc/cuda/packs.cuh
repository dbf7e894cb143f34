// 16 bytes of a row at a time, and a whole row in the registers of a warp: the loads of a lane are
// independent of its stores, so that they are all in flight together.
#pragma once

#include <cstdint>
#include <cstring>
#include <type_traits>

#include "warp.cuh"

namespace sphereface::cuda {

template <typename T>
constexpr int kPackSize = 16 / static_cast<int>(sizeof(T));

template <typename T>
struct Pack {
  T values[kPackSize<T>];

  __device__ static Pack load(const T* from) {
    const int4 words = *reinterpret_cast<const int4*>(from);
    Pack pack;
    memcpy(pack.values, &words, sizeof(words));
    return pack;
  }
  __device__ void store(T* to) const {
    int4 words;
    memcpy(&words, values, sizeof(words));
    *reinterpret_cast<int4*>(to) = words;
  }
};

template <typename T>
SPHEREFACE_HD bool is_aligned(const T* pointer) {
  return reinterpret_cast<uintptr_t>(pointer) % 16 == 0;
}

// Whether every row starts at a multiple of 16 bytes.
template <typename T>
bool has_aligned_rows(const Matrix<T>& m) {
  return is_aligned(m.data) && m.row_stride % kPackSize<T> == 0;
}

// Calls launch with whether all rows are aligned, as a type.
template <typename T, typename Launch>
void with_packed(const Matrix<T>& rows, const Launch& launch) {
  has_aligned_rows(rows) ? launch(std::true_type()) : launch(std::false_type());
}

// Calls launch with the number of packs of a row that a lane takes, rounded up to one that kernels
// are compiled for, as a type; with 0 for rows that are not aligned, no whole number of packs or
// too long for registers.
template <typename T, typename Launch>
void with_packs(int64_t cols, bool aligned, const Launch& launch) {
  constexpr int64_t kLanesPack = kWarpSize * kPackSize<T>;
  if (!aligned || cols % kPackSize<T> != 0 || cols > 8 * kLanesPack) {
    launch(std::integral_constant<int, 0>());
  } else if (cols <= 2 * kLanesPack) {
    launch(std::integral_constant<int, 2>());
  } else if (cols <= 4 * kLanesPack) {
    launch(std::integral_constant<int, 4>());
  } else {
    launch(std::integral_constant<int, 8>());
  }
}

// A row of at most kPacks packs a lane, of aligned memory.
template <typename T, int kPacks>
struct PackedRow {
  Pack<T> packs[kPacks];

  __device__ static int64_t column(int n) {
    return (int64_t{n} * kWarpSize + lane_id()) * kPackSize<T>;
  }
  __device__ static PackedRow load(const T* row, int64_t cols) {
    PackedRow result;
#pragma unroll
    for (int n = 0; n < kPacks; ++n) {
      if (column(n) < cols) {
        result.packs[n] = Pack<T>::load(row + column(n));
      } else {
#pragma unroll
        for (T& value : result.packs[n].values) value = Scalar<T>::store(0);
      }
    }
    return result;
  }
  __device__ void store(T* row, int64_t cols) const {
#pragma unroll
    for (int n = 0; n < kPacks; ++n) {
      if (column(n) < cols) packs[n].store(row + column(n));
    }
  }
  // Calls body(value, other's value) for each value of the lane.
  template <typename Body>
  __device__ void each_with(const PackedRow& other, const Body& body) {
#pragma unroll
    for (int n = 0; n < kPacks; ++n) {
#pragma unroll
      for (int v = 0; v < kPackSize<T>; ++v) body(packs[n].values[v], other.packs[n].values[v]);
    }
  }
};

}  // namespace sphereface::cuda
