// Which output pixels of a convolution make a tile.
#pragma once

#include <algorithm>

#include "float_vector.h"
#include "forward_program.h"

namespace sphereface::cpu {

// A tile is as high as leaves room in the registers for its sums and a row of its panels. Two
// panels of one vector each share what they read of the pictures.
struct TileSize {
  int64_t rows, panels;
};

template <int V>
constexpr TileSize kTile = {2, 1};
template <>
inline constexpr TileSize kTile<8> = {6, 1};
template <>
inline constexpr TileSize kTile<16> = {12, 2};

// Whether output pixel i reads just input pixel i.
SPHEREFACE_INLINE bool reads_in_order(const Step& s) {
  return s.kernel_h == 1 && s.kernel_w == 1 && s.stride_h == 1 && s.stride_w == 1 && s.pad_h == 0 &&
         s.pad_w == 0;
}

constexpr int64_t kGathered = 160;  // values that a pixel of few channels reads at most

// Pieces of memory as short as the rows of a kernel of few channels are found once for all panels.
inline bool is_gathered(const Step& s) {
  return s.channels < kPanel && s.out_channels > 2 * kPanel && !reads_in_order(s) &&
         s.kernel_h * s.kernel_w * s.channels <= kGathered;
}

// A rectangle of the output pictures; its pixels are counted by image, row and column.
struct Window {
  int64_t top, bottom, left, right;

  int64_t width() const { return right - left; }
  int64_t area() const { return (bottom - top) * width(); }
};

// Pixels of a window, from its pixel `first` on.
struct Tile {
  Window window;
  int64_t first, rows;
};

// Tiles of a convolution. Pixels at an edge are apart from the others: a tile of them leaves out
// the taps that read nothing but padding, a tenth of the multiplications of a 14 x 12 picture.
class Tiles {
 public:
  Tiles(const Step& s, TileSize size) : images_(s.images) {
    const auto [top, bottom] =
        inside(s.height, s.out_height, s.kernel_h, s.stride_h, s.pad_h, s.dilation_h);
    const auto [left, right] =
        inside(s.width, s.out_width, s.kernel_w, s.stride_w, s.pad_w, s.dilation_w);
    // The same work before the middle as behind it, for threads that share the tiles.
    const Window windows[kMost] = {{0, top, 0, s.out_width},
                                   {top, bottom, 0, left},
                                   {top, bottom, left, right},
                                   {top, bottom, right, s.out_width},
                                   {bottom, s.out_height, 0, s.out_width}};
    bool apart = !is_gathered(s);
    for (const Window& window : windows) {
      // Tiles of few rows read the weights as often as high ones.
      const int64_t pixels = images_ * window.area();
      apart = apart && (pixels == 0 || pixels >= size.rows / 3);
    }
    if (!apart) add({0, s.out_height, 0, s.out_width}, size.rows);
    for (int i = 0; apart && i < kMost; ++i) add(windows[i], size.rows);
  }

  int64_t count() const { return total_; }

  // Of nearly equal height in a window: seven rows and six waste less than seven, seven and one.
  Tile operator[](int64_t index) const {
    int i = 0;
    for (; index >= tiles_[i]; ++i) index -= tiles_[i];
    const int64_t pixels = images_ * windows_[i].area();
    const int64_t rows = pixels / tiles_[i], taller = pixels % tiles_[i];
    return {windows_[i], index * rows + std::min(index, taller), rows + (index < taller)};
  }

 private:
  static constexpr int kMost = 5;

  struct Range {
    int64_t begin, end;
  };

  // Rows (columns) of the output that read no padding above or below.
  static Range inside(int64_t size, int64_t out, int64_t kernel, int64_t stride, int64_t pad,
                      int64_t dilation) {
    const int64_t begin = std::min(out, (pad + stride - 1) / stride);
    const int64_t room = size - 1 + pad - (kernel - 1) * dilation;
    const int64_t end = room < 0 ? 0 : std::min(out, room / stride + 1);
    return {begin, std::max(begin, end)};
  }

  void add(const Window& window, int64_t rows) {
    const int64_t pixels = images_ * window.area();
    if (pixels == 0) return;
    windows_[used_] = window;
    total_ += tiles_[used_++] = (pixels + rows - 1) / rows;
  }

  int64_t images_, total_ = 0;
  int used_ = 0;
  Window windows_[kMost];
  int64_t tiles_[kMost];
};

inline int64_t groups_of(const Step& s, TileSize size) {
  const int64_t panels = padded_channels(s.out_channels) / kPanel;
  return (panels + size.panels - 1) / size.panels;
}

}  // namespace sphereface::cpu
