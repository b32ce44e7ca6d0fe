// What the flow of one lane is made of, worked out on the host: which pictures, levels, regions and tiles there are,
// and the tables that their kernels read. Plain values; knows no CUDA, so that tests of it need none.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "metst/roi_flow.h"

namespace metst::cuda::roi_flow {

constexpr FarnebackParameters kParameters{};
constexpr int kLevels = kParameters.levels + 1;

constexpr int kColumns = 32;     // of a tile
constexpr int kBlockRows = 32;   // of a tile of the kernels with one block per lane or patch
constexpr int kSpreadRows = 16;  // of the others

constexpr int kNose = RoiFlowLayout::kMaxPatches;  // among the pictures of a lane
constexpr int kPictures = kNose + 1;

// One level of a picture. Tables are indices into the lane's ints and floats; `at` is its first pixel in the planes.
struct LevelSetup {
    int height, width, area, at;
    int tiles_down, tiles_across;  // of kBlockRows
    int row_taps, radius;
    int rows, columns, enlarge_rows, enlarge_columns;                         // ints
    int row_weights, column_weights, column_fractions;                        // floats
    int enlarge_row_fractions, enlarge_column_fractions, border_x, border_y;  // floats
};

struct PictureSetup {
    Rect rect;    // of the crop
    Rect needed;  // of the picture: around its regions
    int levels;   // 0 where it is empty
    int still;    // too thin to have flow
    LevelSetup level[kLevels];
};

struct RegionSetup {
    int patch;
    Rect rect;
    int count;  // of the longest vectors: 0 where there is nothing to average
    int empty;  // no flow then, nor the head's taken out but with compat
};

struct Tile {
    std::int16_t picture, level, row, column;  // the last two in tiles of kSpreadRows
};

// What start() leaves on the device for a lane, followed by its tiles, ints and floats.
struct alignas(16) LaneSetup {
    int active;
    int compat;
    int nose_full;                     // its first tile at full size; those of its other levels come before it
    int tiles[kLevels + 1];            // the first tile of each level of the patches, and the end
    int tiles_at, ints_at, floats_at;  // bytes
    RegionSetup nose_inside;
    PictureSetup pictures[kPictures];
    RegionSetup regions[RoiFlowLayout::kMaxRegions];
};

// A lane's setup, and the bytes that go to the device: the same setup and, behind it, its tables.
struct PreparedLane {
    LaneSetup setup;
    std::vector<unsigned char> bytes;
};

// Whether a layout fits a batch with so many regions: all of its rectangles, indices and shares are in range.
bool valid(const RoiFlowLayout& layout, int regions);

// Of its patches and the nose bridge.
std::int64_t pixels_of(const RoiFlowLayout& layout);

// The layout is valid.
PreparedLane prepare(const RoiFlowLayout& layout);

// At least as many bytes as any layout's PreparedLane has.
std::size_t largest_setup();

// At least as many elements as a lane's planes need whose layout has no more than so many pixels.
std::size_t largest_plane(std::int64_t pixels);

// Whether a rectangle lies in a picture.
bool lies_in(const Rect& rect, int height, int width);

}  // namespace metst::cuda::roi_flow
