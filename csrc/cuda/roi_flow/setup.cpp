#include "setup.h"

#include <algorithm>
#include <cstring>

#include "roi_flow_plan.h"

namespace metst::cuda::roi_flow {
namespace {

int in_tiles(int length, int of) { return (length + of - 1) / of; }

// The tables of a lane, as they are put together.
struct Tables {
    std::vector<Tile> tiles;
    std::vector<int> ints;
    std::vector<float> floats;

    int add(const std::vector<int>& table) {
        ints.insert(ints.end(), table.begin(), table.end());
        return static_cast<int>(ints.size() - table.size());
    }
    int add(const std::vector<float>& table) {
        floats.insert(floats.end(), table.begin(), table.end());
        return static_cast<int>(floats.size() - table.size());
    }

    // The levels of a picture; `at` is the first pixel of the lane's planes that is free.
    void add(const Plan& plan, int& at, PictureSetup& picture) {
        picture.levels = static_cast<int>(plan.levels.size());
        picture.still = plan.height < 2 || plan.width < 2;
        for (std::size_t k = 0; k < plan.levels.size(); ++k) {
            const Level& from = plan.levels[k];
            LevelSetup& to = picture.level[k];
            to.height = from.height;
            to.width = from.width;
            to.area = from.height * from.width;
            to.at = at;
            at += rounded_up(to.area);
            to.tiles_down = in_tiles(from.height, kBlockRows);
            to.tiles_across = in_tiles(from.width, kColumns);
            to.row_taps = from.row_taps;
            to.radius = from.radius;
            to.rows = add(from.rows);
            to.row_weights = add(from.row_weights);
            to.column_weights = add(from.column_weights);
            to.columns = add(from.columns.first);
            to.column_fractions = add(from.columns.fraction);
            to.enlarge_rows = add(from.enlarge_rows.first);
            to.enlarge_row_fractions = add(from.enlarge_rows.fraction);
            to.enlarge_columns = add(from.enlarge_columns.first);
            to.enlarge_column_fractions = add(from.enlarge_columns.fraction);
            to.border_x = add(from.border_x);
            to.border_y = add(from.border_y);
        }
    }

    void add_tiles(int number, const PictureSetup& picture, int first_level, int end_level) {
        for (int k = first_level; k < std::min(end_level, picture.levels); ++k) {
            const int across = in_tiles(picture.level[k].width, kColumns);
            const int down = in_tiles(picture.level[k].height, kSpreadRows);
            for (int i = 0; i < down * across; ++i) {
                tiles.push_back({static_cast<std::int16_t>(number), static_cast<std::int16_t>(k),
                                 static_cast<std::int16_t>(i / across), static_cast<std::int16_t>(i % across)});
            }
        }
    }

    // Each array begins aligned, behind a setup and the arrays before it.
    std::size_t bytes() const {
        static_assert(sizeof(LaneSetup) % sizeof(Tile) == 0 && sizeof(Tile) % sizeof(int) == 0, "");
        static_assert(sizeof(int) == sizeof(float), "");
        return tiles.size() * sizeof(Tile) + ints.size() * sizeof(int) + floats.size() * sizeof(float);
    }
};

RegionSetup region_setup(int patch, const Rect& rect, double share) {
    RegionSetup region{};
    region.patch = patch;
    region.rect = rect;
    region.empty = rect.empty();
    if (region.empty) return region;
    const int n = rect.height() * rect.width();
    region.count = std::max(n - static_cast<int>(n * (1.0 - share)), 0);
    return region;
}

bool valid_share(double share) { return share >= 0.0 && share <= 1.0; }

std::int64_t area(const Rect& rect) { return rect.empty() ? 0 : std::int64_t{rect.height()} * rect.width(); }

Rect around(const Rect& a, const Rect& b) {
    return {std::min(a.top, b.top), std::max(a.bottom, b.bottom), std::min(a.left, b.left), std::max(a.right, b.right)};
}

// The levels of every picture, and their tables.
void add_pictures(const RoiFlowLayout& layout, LaneSetup& setup, Tables& tables) {
    int at = 0;
    for (int i = 0; i < kPictures; ++i) {
        if (i >= layout.patch_count && i != kNose) continue;
        const Rect& rect = i == kNose ? layout.nose : layout.patches[i];
        if (rect.empty()) continue;
        setup.pictures[i].rect = rect;
        tables.add(Plan(rect.height(), rect.width(), kParameters), at, setup.pictures[i]);
    }
}

// The regions, and what of their pictures they need.
void add_regions(const RoiFlowLayout& layout, LaneSetup& setup) {
    for (int i = 0; i < layout.region_count; ++i) {
        const FlowRegion& region = layout.regions[i];
        setup.regions[i] = region_setup(region.patch, region.rect, region.share);
        PictureSetup& picture = setup.pictures[region.patch];
        if (picture.levels == 0) setup.regions[i].empty = 1, setup.regions[i].count = 0;
        if (setup.regions[i].empty) continue;
        picture.needed = picture.needed.empty() ? region.rect : around(picture.needed, region.rect);
    }
    if (setup.pictures[kNose].levels > 0) {
        setup.nose_inside = region_setup(kNose, layout.nose_inside, layout.nose_share);
        setup.pictures[kNose].needed = layout.nose_inside;
    }
}

// Tiles of the nose bridge, full size last; then those of the patches, level by level.
void add_tiles(LaneSetup& setup, Tables& tables) {
    tables.add_tiles(kNose, setup.pictures[kNose], 1, kLevels);
    setup.nose_full = static_cast<int>(tables.tiles.size());
    tables.add_tiles(kNose, setup.pictures[kNose], 0, 1);
    for (int k = 0; k <= kLevels; ++k) {
        setup.tiles[k] = static_cast<int>(tables.tiles.size());
        for (int i = 0; i < kNose && k < kLevels; ++i) tables.add_tiles(i, setup.pictures[i], k, k + 1);
    }
}

}  // namespace

bool lies_in(const Rect& rect, int height, int width) {
    return rect.top >= 0 && rect.left >= 0 && rect.bottom <= height && rect.right <= width;
}

bool valid(const RoiFlowLayout& layout, int regions) {
    constexpr int kCrop = RoiFlow::kCropSize;
    if (layout.patch_count < 0 || layout.patch_count > RoiFlowLayout::kMaxPatches) return false;
    if (layout.region_count != regions) return false;
    for (int i = 0; i < layout.patch_count; ++i) {
        if (!layout.patches[i].empty() && !lies_in(layout.patches[i], kCrop, kCrop)) return false;
    }
    for (int i = 0; i < regions; ++i) {
        const FlowRegion& region = layout.regions[i];
        if (region.patch < 0 || region.patch >= layout.patch_count || !valid_share(region.share)) return false;
        const Rect& patch = layout.patches[region.patch];
        if (!region.rect.empty() && !patch.empty() && !lies_in(region.rect, patch.height(), patch.width())) {
            return false;
        }
    }
    if (!valid_share(layout.nose_share)) return false;
    if (layout.nose.empty()) return true;
    return lies_in(layout.nose, kCrop, kCrop) &&
           (layout.nose_inside.empty() || lies_in(layout.nose_inside, layout.nose.height(), layout.nose.width()));
}

std::int64_t pixels_of(const RoiFlowLayout& layout) {
    std::int64_t pixels = area(layout.nose);
    for (int i = 0; i < layout.patch_count; ++i) pixels += area(layout.patches[i]);
    return pixels;
}

PreparedLane prepare(const RoiFlowLayout& layout) {
    PreparedLane lane{};
    LaneSetup& setup = lane.setup;
    Tables tables;
    setup.active = 1;
    setup.compat = layout.compat;
    add_pictures(layout, setup, tables);
    add_regions(layout, setup);
    add_tiles(setup, tables);
    setup.tiles_at = static_cast<int>(sizeof(LaneSetup));
    setup.ints_at = setup.tiles_at + static_cast<int>(tables.tiles.size() * sizeof(Tile));
    setup.floats_at = setup.ints_at + static_cast<int>(tables.ints.size() * sizeof(int));

    lane.bytes.resize(sizeof(LaneSetup) + tables.bytes());
    const auto pack = [&](int to, const void* from, std::size_t bytes) {
        if (bytes > 0) std::memcpy(lane.bytes.data() + to, from, bytes);
    };
    pack(0, &setup, sizeof(setup));
    pack(setup.tiles_at, tables.tiles.data(), tables.tiles.size() * sizeof(Tile));
    pack(setup.ints_at, tables.ints.data(), tables.ints.size() * sizeof(int));
    pack(setup.floats_at, tables.floats.data(), tables.floats.size() * sizeof(float));
    return lane;
}

std::size_t largest_setup() {
    // No picture has longer tables or more tiles than one of the whole crop.
    Tables tables;
    PictureSetup picture{};
    int at = 0;
    tables.add(Plan(RoiFlow::kCropSize, RoiFlow::kCropSize, kParameters), at, picture);
    tables.add_tiles(0, picture, 0, kLevels);
    return sizeof(LaneSetup) + kPictures * tables.bytes();
}

std::size_t largest_plane(std::int64_t pixels) {
    // A level is a quarter of the one below but for half a pixel a side, and starts at a multiple of kRowAlignment.
    return static_cast<std::size_t>(pixels + pixels / 3 + kPictures * (RoiFlow::kCropSize + kLevels * kRowAlignment));
}

}  // namespace metst::cuda::roi_flow
