// Runs CUDA kernels on the CPU, block by block: each thread of a block is a fiber that stops where
// a warp or the block has to meet. It shows what a kernel computes and which memory it touches; a
// warp that parts at a meeting place ends the program. Include it before a .cuh.
#pragma once

#include <ucontext.h>

#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <memory>
#include <vector>

#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/common_interface_defs.h>
#endif

#define __global__
#define __device__
#define __launch_bounds__(threads)
#define __shared__ static

struct alignas(16) int4 {
  int x, y, z, w;
};

struct Dim {
  unsigned x = 1;
};
inline Dim threadIdx, blockIdx, blockDim, gridDim;

namespace cuda_on_host {

constexpr unsigned kWarp = 32;
constexpr size_t kStack = 1 << 16;

// Where `size` threads meet: the last one to come lets all go on.
struct Meeting {
  unsigned size, here = 0;
  uint64_t done = 0;
};

struct Fiber {
  ucontext_t context;
  bool finished = false;
};

// The stack of a thread, which the blocks use one after the other.
inline char* stack_of(unsigned thread) {
  static std::vector<std::unique_ptr<char[]>> stacks;
  while (stacks.size() <= thread) stacks.emplace_back(new char[kStack]);
  return stacks[thread].get();
}

class Block {
 public:
  Block(unsigned threads, const std::function<void()>& body)
      : body_(body), fibers_(threads), warps_(threads / kWarp, Meeting{kWarp}), all_{threads} {
    for (unsigned t = 0; t < threads; ++t) prepare(fibers_[t].context, stack_of(t));
  }

  void run() {
    current() = this;
    for (bool alive = true; alive;) {
      alive = false;
      const uint64_t before = steps_;
      for (unsigned t = 0; t < fibers_.size(); ++t) {
        if (fibers_[t].finished) continue;
        alive = true;
        threadIdx.x = t;
        change(&main_, fibers_[t].context, stack_of(t), kStack);
      }
      if (alive && steps_ == before) {
        std::puts("cuda_on_host: some threads of a warp or block wait for others that never come");
        std::abort();
      }
    }
  }

  void meet(Meeting& meeting) {
    const uint64_t mine = meeting.done;
    ++steps_;
    if (++meeting.here == meeting.size) {
      meeting.here = 0;
      ++meeting.done;
      return;
    }
    const unsigned thread = threadIdx.x;
    while (meeting.done == mine) {
      change(&fibers_[thread].context, main_, main_stack_, main_size_);
    }
  }
  void meet_warp() { meet(warps_[threadIdx.x / kWarp]); }
  void meet_all() { meet(all_); }

  static Block*& current() {
    static Block* block = nullptr;
    return block;
  }

 private:
  void prepare(ucontext_t& context, char* stack) {
    getcontext(&context);
    context.uc_stack.ss_sp = stack;
    context.uc_stack.ss_size = kStack;
    context.uc_link = &main_;
    makecontext(&context, &Block::enter, 0);
  }

  static void enter() {
    Block& block = *current();
#ifdef __SANITIZE_ADDRESS__
    __sanitizer_finish_switch_fiber(nullptr, &block.main_stack_, &block.main_size_);
#endif
    block.body_();
    block.fibers_[threadIdx.x].finished = true;
    ++block.steps_;
#ifdef __SANITIZE_ADDRESS__
    __sanitizer_start_switch_fiber(nullptr, block.main_stack_, block.main_size_);
#endif
  }

  void change(ucontext_t* from, ucontext_t& to, const void* stack, size_t size) {
#ifdef __SANITIZE_ADDRESS__
    void* fake = nullptr;
    __sanitizer_start_switch_fiber(&fake, stack, size);
    swapcontext(from, &to);
    const void** old = from == &main_ ? nullptr : &main_stack_;
    __sanitizer_finish_switch_fiber(fake, old, old == nullptr ? nullptr : &main_size_);
#else
    (void)stack, (void)size;
    swapcontext(from, &to);
#endif
  }

  std::function<void()> body_;
  std::vector<Fiber> fibers_;
  std::vector<Meeting> warps_;
  Meeting all_;
  uint64_t steps_ = 0;
  ucontext_t main_;
  const void* main_stack_ = nullptr;
  size_t main_size_ = 0;
};

// What the lanes of each warp show each other. Two of them in turn: a lane may be one exchange
// ahead of another that still reads.
inline unsigned char (&exchange(unsigned turn)) [kWarp][16] {
  static unsigned char slots[2][32][kWarp][16];
  return slots[turn % 2][threadIdx.x / kWarp];
} inline unsigned& turn_of_thread() {
  static unsigned turns[1024];
  return turns[threadIdx.x];
}

// kernel() as every thread of `blocks` blocks of `threads`, a multiple of 32.
template <typename Kernel>
void launch(unsigned blocks, unsigned threads, const Kernel& kernel) {
  gridDim.x = blocks;
  blockDim.x = threads;
  for (blockIdx.x = 0; blockIdx.x < blocks; ++blockIdx.x) Block(threads, kernel).run();
}

}  // namespace cuda_on_host

inline void __syncthreads() { cuda_on_host::Block::current()->meet_all(); }

template <typename T>
T __shfl_xor_sync(unsigned, T value, int offset) {
  static_assert(sizeof(T) <= 16);
  auto& slots = cuda_on_host::exchange(cuda_on_host::turn_of_thread()++);
  const unsigned lane = threadIdx.x % cuda_on_host::kWarp;
  std::memcpy(slots[lane], &value, sizeof(T));
  cuda_on_host::Block::current()->meet_warp();
  std::memcpy(&value, slots[lane ^ offset], sizeof(T));
  return value;
}

inline unsigned __ballot_sync(unsigned, bool mine) {
  auto& slots = cuda_on_host::exchange(cuda_on_host::turn_of_thread()++);
  slots[threadIdx.x % cuda_on_host::kWarp][0] = mine;
  cuda_on_host::Block::current()->meet_warp();
  unsigned bits = 0;
  for (unsigned lane = 0; lane < cuda_on_host::kWarp; ++lane)
    bits |= unsigned{slots[lane][0]} << lane;
  return bits;
}

template <typename T>
T __ldg(const T* from) {
  return *from;
}

inline int __ffs(unsigned bits) { return __builtin_ffs(static_cast<int>(bits)); }
