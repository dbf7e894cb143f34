// The only host/device switch: math that both the CPU and the CUDA kernels call is marked
// SPHEREFACE_HD and written once.
#pragma once

#ifdef __CUDACC__
#define SPHEREFACE_HD __host__ __device__
#else
#define SPHEREFACE_HD
#endif
