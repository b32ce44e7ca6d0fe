// What the host prepares for the flow on a GPU (csrc/cuda/roi_flow/setup.h), for layouts that are drawn: every pixel
// has its tile, planes and tables do not overlap, and nothing is larger than what a batch keeps room for. No CUDA, no
// GPU.
#include "roi_flow/setup.h"

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <random>
#include <utility>
#include <vector>

#include "expect.h"

namespace {

using metst::Rect;
using metst::RoiFlow;
using metst::RoiFlowLayout;
using namespace metst::cuda::roi_flow;

std::vector<Tile> tiles_of(const PreparedLane& lane) {
    std::vector<Tile> tiles(static_cast<std::size_t>(lane.setup.ints_at - lane.setup.tiles_at) / sizeof(Tile));
    if (!tiles.empty()) {
        std::memcpy(tiles.data(), lane.bytes.data() + lane.setup.tiles_at, tiles.size() * sizeof(Tile));
    }
    return tiles;
}

class Drawn {
public:
    explicit Drawn(unsigned seed) : random_(seed) {}

    int below(int end) { return static_cast<int>(random_() % static_cast<unsigned>(end)); }

    // In a picture; every fourth is empty, every fourth one pixel thin.
    Rect rect(int height, int width) {
        const int kind = below(4);
        const int top = below(height), left = below(width);
        const int rows = kind == 0 ? 0 : kind == 1 ? 1 : 1 + below(height - top);
        return {top, top + rows, left, left + 1 + below(width - left)};
    }

    RoiFlowLayout layout() {
        RoiFlowLayout layout;
        layout.patch_count = 1 + below(RoiFlowLayout::kMaxPatches);
        for (int i = 0; i < layout.patch_count; ++i) layout.patches[i] = rect(RoiFlow::kCropSize, RoiFlow::kCropSize);
        layout.region_count = below(RoiFlowLayout::kMaxRegions + 1);
        for (int i = 0; i < layout.region_count; ++i) {
            const int patch = below(layout.patch_count);
            const Rect& of = layout.patches[patch];
            layout.regions[i] = {patch, of.empty() ? Rect{} : rect(of.height(), of.width()), below(11) / 10.0};
        }
        layout.nose = rect(RoiFlow::kCropSize, RoiFlow::kCropSize);
        if (!layout.nose.empty()) layout.nose_inside = rect(layout.nose.height(), layout.nose.width());
        layout.nose_share = below(11) / 10.0;
        return layout;
    }

private:
    std::mt19937 random_;
};

void every_pixel_of_every_level_has_one_tile(const PreparedLane& lane) {
    const LaneSetup& setup = lane.setup;
    const std::vector<Tile> tiles = tiles_of(lane);
    EXPECT(setup.tiles[kLevels] == static_cast<int>(tiles.size()), "%d, not %zu", setup.tiles[kLevels], tiles.size());
    for (int picture = 0; picture < kPictures; ++picture) {
        for (int k = 0; k < setup.pictures[picture].levels; ++k) {
            const LevelSetup& level = setup.pictures[picture].level[k];
            const bool nose = picture == kNose;
            const int first = nose ? (k == 0 ? setup.nose_full : 0) : setup.tiles[k];
            const int end = nose ? (k == 0 ? setup.tiles[0] : setup.nose_full) : setup.tiles[k + 1];
            std::vector<int> covered(static_cast<std::size_t>(level.area));
            for (int i = first; i < end; ++i) {
                const Tile& tile = tiles[static_cast<std::size_t>(i)];
                if (tile.picture != picture || tile.level != k) continue;
                const int bottom = std::min(level.height, (tile.row + 1) * kSpreadRows);
                const int right = std::min(level.width, (tile.column + 1) * kColumns);
                for (int y = tile.row * kSpreadRows; y < bottom; ++y) {
                    for (int x = tile.column * kColumns; x < right; ++x) {
                        ++covered[static_cast<std::size_t>(y * level.width + x)];
                    }
                }
            }
            const auto wrong = std::count_if(covered.begin(), covered.end(), [](int times) { return times != 1; });
            EXPECT(wrong == 0, "picture %d level %d: %d pixels", picture, k, static_cast<int>(wrong));
            EXPECT(level.tiles_down * kBlockRows >= level.height && level.tiles_across * kColumns >= level.width,
                   "picture %d level %d, by one block", picture, k);
        }
    }
    const auto patches = [&](const Tile& tile) { return tile.picture != kNose; };
    const auto tiled = std::count_if(tiles.begin(), tiles.end(), patches);
    EXPECT(tiled == setup.tiles[kLevels] - setup.tiles[0], "tiles of patches: %d", static_cast<int>(tiled));
}

void planes_do_not_overlap_and_fit(const PreparedLane& lane, std::int64_t pixels) {
    std::vector<std::pair<int, int>> spans;
    for (const PictureSetup& picture : lane.setup.pictures) {
        for (int k = 0; k < picture.levels; ++k) {
            spans.emplace_back(picture.level[k].at, picture.level[k].at + picture.level[k].area);
        }
    }
    std::sort(spans.begin(), spans.end());
    for (std::size_t i = 1; i < spans.size(); ++i) EXPECT(spans[i - 1].second <= spans[i].first, "span %zu", i);
    const std::size_t end = spans.empty() ? 0 : static_cast<std::size_t>(spans.back().second);
    EXPECT(end <= largest_plane(pixels), "%zu elements, room for %zu", end, largest_plane(pixels));
}

void tables_are_in_the_bytes_and_the_bytes_fit(const PreparedLane& lane) {
    const LaneSetup& setup = lane.setup;
    EXPECT(std::memcmp(lane.bytes.data(), &setup, sizeof(setup)) == 0, "the setup comes first");
    EXPECT(lane.bytes.size() <= largest_setup(), "%zu bytes, room for %zu", lane.bytes.size(), largest_setup());
    const int ints = (setup.floats_at - setup.ints_at) / static_cast<int>(sizeof(int));
    const int floats = (static_cast<int>(lane.bytes.size()) - setup.floats_at) / static_cast<int>(sizeof(float));
    for (const PictureSetup& picture : setup.pictures) {
        for (int k = 0; k < picture.levels; ++k) {
            const LevelSetup& level = picture.level[k];
            const bool top = k + 1 == picture.levels;
            const auto inside = [](int at, int count, int size) { return at >= 0 && at + count <= size; };
            EXPECT(inside(level.rows, level.height * level.row_taps, ints) &&
                       inside(level.columns, k == 0 ? 0 : level.width, ints) &&
                       inside(level.enlarge_rows, top ? 0 : level.height, ints) &&
                       inside(level.enlarge_columns, top ? 0 : level.width, ints),
                   "ints of level %d", k);
            EXPECT(inside(level.row_weights, level.height * level.row_taps, floats) &&
                       inside(level.column_weights, 2 * level.radius + 1, floats) &&
                       inside(level.column_fractions, k == 0 ? 0 : level.width, floats) &&
                       inside(level.enlarge_row_fractions, top ? 0 : level.height, floats) &&
                       inside(level.enlarge_column_fractions, top ? 0 : level.width, floats) &&
                       inside(level.border_x, level.width, floats) && inside(level.border_y, level.height, floats),
                   "floats of level %d", k);
        }
    }
}

void what_is_needed_of_a_patch_is_around_its_regions(const PreparedLane& lane, const RoiFlowLayout& layout) {
    for (int patch = 0; patch < layout.patch_count; ++patch) {
        std::vector<Rect> inside;
        for (int i = 0; i < layout.region_count; ++i) {
            const RegionSetup& region = lane.setup.regions[i];
            if (region.patch != patch) continue;
            EXPECT((region.empty != 0) == layout.regions[i].rect.empty(), "region %d", i);
            EXPECT(region.count >= 0 && (region.empty || region.count <= region.rect.height() * region.rect.width()),
                   "region %d: %d vectors", i, region.count);
            if (!region.empty) inside.push_back(region.rect);
        }
        const Rect& needed = lane.setup.pictures[patch].needed;
        EXPECT(needed.empty() == inside.empty(), "patch %d", patch);
        if (inside.empty()) continue;
        const auto least = [&](int Rect::* side) {
            return std::min_element(inside.begin(), inside.end(),
                                    [=](const Rect& a, const Rect& b) { return a.*side < b.*side; });
        };
        const auto most = [&](int Rect::* side) {
            return std::max_element(inside.begin(), inside.end(),
                                    [=](const Rect& a, const Rect& b) { return a.*side < b.*side; });
        };
        const Rect expected{least(&Rect::top)->top, most(&Rect::bottom)->bottom, least(&Rect::left)->left,
                            most(&Rect::right)->right};
        EXPECT(needed == expected, "patch %d", patch);
    }
}

void a_layout_of_another_number_of_regions_or_outside_the_crop_is_not_valid() {
    RoiFlowLayout layout;
    layout.patches[layout.patch_count++] = {0, 320, 0, 320};
    layout.regions[layout.region_count++] = {0, {0, 320, 0, 320}, 1.0};
    EXPECT(valid(layout, 1) && !valid(layout, 0) && !valid(layout, 2), "regions");
    EXPECT(pixels_of(layout) == 320 * 320, "%d", static_cast<int>(pixels_of(layout)));
    layout.patches[0].bottom = 321;
    EXPECT(!valid(layout, 1), "a patch outside the crop");
}

}  // namespace

int main() {
    for (unsigned seed = 0; seed < 300; ++seed) {
        const RoiFlowLayout layout = Drawn(seed).layout();
        EXPECT(valid(layout, layout.region_count), "seed %u", seed);
        const PreparedLane lane = prepare(layout);
        every_pixel_of_every_level_has_one_tile(lane);
        planes_do_not_overlap_and_fit(lane, pixels_of(layout));
        tables_are_in_the_bytes_and_the_bytes_fit(lane);
        what_is_needed_of_a_patch_is_around_its_regions(lane, layout);
    }
    a_layout_of_another_number_of_regions_or_outside_the_crop_is_not_valid();
    std::printf("%d failures\n", failures);
    return failures != 0;
}
