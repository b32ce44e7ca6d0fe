// The registration on every vector path against the portable one; boxes at the edges of pictures of one pixel and more;
// spots from none to the most; nothing seen at all; lanes on threads; memory, together with the sanitizers. That the numbers are those of the
// formulas in metst/registration.h is shown in tests/flow/test_steady.py.
#include "metst/registration.h"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <new>
#include <thread>
#include <vector>

#include "expect.h"
#include "fenced_array.h"
#include "simd_paths.h"
#include "thread_sanitizer.h"
#include "waves.h"

namespace {

std::atomic<int> allocations{0};

}  // namespace

// Not inlined: else GCC takes the one for another allocator than the other is of.
[[gnu::noinline]] void* operator new(std::size_t size) {
    ++allocations;
    void* const memory = std::malloc(size);
    if (memory == nullptr) throw std::bad_alloc();
    return memory;
}

[[gnu::noinline]] void operator delete(void* memory) noexcept { std::free(memory); }
[[gnu::noinline]] void operator delete(void* memory, std::size_t) noexcept { std::free(memory); }

namespace {

using metst::Gray;
using metst::HeadShape;
using metst::Rect;
using metst::Registration;
using metst::Spot;

constexpr int kCrop = Registration::kCropSize, kGrid = Registration::kGrid, kParameters = Registration::kParameters;
constexpr std::size_t kPixels = static_cast<std::size_t>(kCrop) * kCrop;
constexpr int kFace = 19, kMost = Registration::kMostSpots;  // spots of a face, and as many as there may be

std::size_t size(int n) { return static_cast<std::size_t>(n); }

// A picture whose rows lie `apart` bytes from each other, between inaccessible pages that its first or last byte touches.
class Picture {
public:
    Picture(int height, int width, double dx, double dy, unsigned seed, int apart = 0, Fence fence = Fence::kAfter)
        : bytes_(size(height - 1) * size(std::max(width, apart)) + size(width)),
          memory_((bytes_ + 3) / 4, fence),
          gray_{nullptr, height, width, std::max(width, apart)} {
        std::uint8_t* const first = reinterpret_cast<std::uint8_t*>(memory_.data());
        std::uint8_t* const pixels = fence == Fence::kBefore ? first : first + 4 * memory_.size() - bytes_;
        std::vector<std::uint8_t> dense(size(height) * size(width));
        draw_waves(height, width, dx, dy, seed, dense.data());
        for (int y = 0; y < height; ++y) {
            std::memcpy(pixels + y * gray_.stride, dense.data() + size(y) * size(width), size(width));
        }
        gray_.pixels = pixels;
    }
    Gray gray() const { return gray_; }

private:
    std::size_t bytes_;
    FencedArray memory_;
    Gray gray_;
};

// Where a face is looked at: everywhere but in a few holes.
std::vector<float> weights(float value = 1.0f) {
    std::vector<float> out(size(kGrid * kGrid), value);
    for (int i = 30; i < 40; ++i) {
        for (int j = 10; j < 70; ++j) out[size(i * kGrid + j)] = 0.0f;
    }
    return out;
}

// Where skin moves by itself, in memory that is fenced.
class Skin {
public:
    explicit Skin(int count, Fence fence = Fence::kAfter) : count_(count), memory_(3 * size(count), fence) {
        for (int i = 0; i < count; ++i) {
            set(i, {25.0f + 54.0f * static_cast<float>(i % 6), 30.0f + 52.0f * static_cast<float>(i / 6),
                    12.0f + static_cast<float>(i)});
        }
    }
    void set(int i, const Spot& spot) { std::memcpy(memory_.data() + 3 * i, &spot, sizeof spot); }
    const Spot* spots() { return reinterpret_cast<const Spot*>(memory_.data()); }
    int count() const { return count_; }

private:
    static_assert(sizeof(Spot) == 3 * sizeof(float), "it fills its memory");
    int count_;
    FencedArray memory_;
};

// What is drawn for a frame, in memory that is fenced.
class Crop {
public:
    explicit Crop(Fence fence = Fence::kAfter) : memory_(kPixels / 4, fence) {}
    std::uint8_t* pixels() { return reinterpret_cast<std::uint8_t*>(memory_.data()); }
    bool operator==(Crop& other) { return std::memcmp(pixels(), other.pixels(), kPixels) == 0; }

private:
    FencedArray memory_;
};

void follow_one(Registration& head, const Picture& frame, Crop& crop) {
    Registration* const heads[] = {&head};
    std::uint8_t* const crops[] = {crop.pixels()};
    metst::follow(heads, 1, frame.gray(), crops, 1);
}

double largest_parameter(const Registration& head) {
    double largest = 0.0;
    for (int k = 0; k < kParameters; ++k) {
        if (!std::isfinite(head.parameters()[k])) return INFINITY;
        largest = std::max(largest, std::fabs(head.parameters()[k]));
    }
    return largest;
}

struct Case {
    int height, width, apart;
    Rect box;
};

// At every edge and corner, larger and smaller than the crop, down to a pixel.
const Case kCases[] = {
    {1, 1, 0, {0, 1, 0, 1}},           {1, 50, 0, {0, 1, 20, 50}},
    {60, 1, 0, {0, 60, 0, 1}},         {2, 3, 7, {0, 2, 1, 3}},
    {97, 131, 0, {0, 97, 0, 131}},     {97, 131, 133, {40, 97, 60, 131}},
    {240, 320, 321, {0, 200, 0, 200}}, {240, 321, 337, {40, 240, 121, 321}},
    {355, 381, 0, {0, 331, 50, 381}},  {355, 381, 1000, {3, 344, 2, 353}},
};

void test_paths_agree() {
    struct Spots {
        int count;
        Fence fence;
    };
    for (const Case& c : kCases) {
        for (const auto& [count, fence] : {Spots{0, Fence::kBefore}, {kFace, Fence::kAfter}, {kMost, Fence::kBefore}}) {
            const Picture anchor(c.height, c.width, 0.0, 0.0, 1, c.apart, fence);
            const Picture frames[] = {{c.height, c.width, 0.6, -0.4, 2, c.apart, fence},
                                      {c.height, c.width, 1.8, -1.1, 3, c.apart, fence},
                                      {c.height, c.width, -40.0, 35.0, 4, c.apart, fence}};
            Skin skin(count, fence);
            FencedArray seen(size(kGrid * kGrid), fence);
            const std::vector<float> values = weights();
            std::copy(values.begin(), values.end(), seen.data());
            const auto on = [&](metst::SimdPath path) {
                return Registration(anchor.gray(), c.box, {}, seen.data(), skin.spots(), count, path);
            };
            Registration plain = on(metst::SimdPath::kScalar);
            std::vector<Registration> heads;
            for (const NamedPath& path : available_paths()) heads.push_back(on(path.path));
            Crop expected(fence), drawn(fence);
            for (const Picture& frame : frames) {
                // From the same place, or what differs would grow.
                std::vector<double> before(plain.parameters(), plain.parameters() + kParameters);
                follow_one(plain, frame, expected);
                EXPECT(std::isfinite(largest_parameter(plain)), "%d x %d", c.height, c.width);
                for (std::size_t i = 0; i < heads.size(); ++i) {
                    const char* const name = available_paths()[i].name;
                    heads[i].set_parameters(before.data());
                    follow_one(heads[i], frame, drawn);
                    // Of a box of a few pixels nothing is known but that it ends well.
                    EXPECT(std::isfinite(largest_parameter(heads[i])), "%s, %d x %d", name, c.height, c.width);
                    if (c.box.height() < 50 || c.box.width() < 50) continue;
                    double apart = 0.0;
                    for (int k = 0; k < kParameters; ++k) {
                        apart = std::max(apart, std::fabs(heads[i].parameters()[k] - plain.parameters()[k]));
                    }
                    EXPECT(apart < 0.02, "%s, %d x %d, %d spots: parameters differ by %g", name, c.height, c.width,
                           count, apart);
                    int most = 0;
                    for (std::size_t p = 0; p < kPixels; ++p) {
                        most = std::max(most, std::abs(drawn.pixels()[p] - expected.pixels()[p]));
                    }
                    EXPECT(most <= 3, "%s, %d x %d, %d spots: pixels differ by %d", name, c.height, c.width, count,
                           most);
                }
            }
        }
    }
}

// The motion of waves is a shift, and what is drawn is the anchor's crop.
void test_a_shift_is_found() {
    const Picture anchor(355, 381, 0.0, 0.0, 1), frame(355, 381, 2.0, -1.5, 1);
    const std::vector<float> seen = weights();
    for (const NamedPath& path : available_paths()) {
        for (int count : {0, kFace, kMost}) {
            Skin skin(count);
            Registration head(anchor.gray(), {10, 330, 20, 340}, {}, seen.data(), skin.spots(), count, path.path);
            Crop first, drawn;
            follow_one(head, anchor, first);
            EXPECT(largest_parameter(head) == 0.0, "%s: an anchor has not moved", path.name);
            follow_one(head, frame, drawn);
            const double* const p = head.parameters();
            EXPECT(std::fabs(p[0] - 2.0) < 0.1 && std::fabs(p[4] + 1.5) < 0.1, "%s, %d spots: %g %g", path.name, count,
                   p[0], p[4]);
            double sum = 0.0;
            for (std::size_t i = 0; i < kPixels; ++i) sum += std::abs(drawn.pixels()[i] - first.pixels()[i]);
            EXPECT(sum / kPixels < 3.0, "%s: %g gray levels in the mean", path.name, sum / kPixels);
        }
    }
}

void test_nothing_to_look_at() {
    const Picture anchor(240, 320, 0.0, 0.0, 1), frame(240, 320, 3.0, 2.0, 2);
    Crop drawn;
    Skin skin(kFace);
    const auto on = [&](const std::vector<float>& seen, const NamedPath& path) {
        return Registration(anchor.gray(), {0, 200, 0, 200}, {}, seen.data(), skin.spots(), kFace, path.path);
    };
    for (const NamedPath& path : available_paths()) {
        std::vector<float> none(size(kGrid * kGrid), 0.0f);
        // Cells at the border have no slope, so they do not count either.
        for (int i = 0; i < kGrid; ++i)
            none[size(i)] = none[size(i * kGrid)] = none[size(i * kGrid + kGrid - 1)] = 1.0f;
        Registration head = on(none, path);
        follow_one(head, frame, drawn);
        EXPECT(largest_parameter(head) == 0.0, "%s: no cell", path.name);
        Registration of_all = on(std::vector<float>(size(kGrid * kGrid), 1.0f), path);
        follow_one(of_all, frame, drawn);
        EXPECT(std::isfinite(largest_parameter(of_all)), "%s: all cells", path.name);
    }
}

// The matrix is summed over one colour of a chessboard, 16 cells at a time: fewer than that, and nothing is fitted,
// however many cells are of the other. Of hardly more than that a fit may end anywhere, or nowhere.
void test_few_cells_of_one_colour() {
    const Picture anchor(240, 320, 0.0, 0.0, 1), frame(240, 320, 3.0, 2.0, 2);
    const double put[kParameters] = {1.5, 0.1, 0.0, 0.2, -2.0, 0.0, 0.3, -0.1};
    Crop drawn, expected;
    for (const NamedPath& path : available_paths()) {
        for (int first : {0, 1, 2, 15, 16, 17, 31, 33}) {
            for (int other : {0, 1, 15, 300}) {
                if (first + other == 0) continue;
                std::vector<float> few(size(kGrid * kGrid), 0.0f);
                int left[2] = {first, other};
                for (int i = 20; i < 60; ++i) {
                    for (int j = 20; j < 60; ++j) {
                        if (left[(i + j) % 2]-- > 0) few[size(i * kGrid + j)] = 0.5f;
                    }
                }
                for (int count : {0, kFace}) {
                    Skin skin(count);
                    const Rect box{0, 200, 0, 200};
                    Registration head(anchor.gray(), box, {}, few.data(), skin.spots(), count, path.path);
                    head.set_parameters(put);
                    for (int i = 0; i < 3; ++i) follow_one(head, frame, drawn);
                    EXPECT(std::isfinite(largest_parameter(head)), "%s: %d and %d cells", path.name, first, other);
                    const bool still = std::memcmp(head.parameters(), put, sizeof put) == 0;
                    EXPECT(still || first >= 16, "%s: %d and %d cells", path.name, first, other);
                    EXPECT(!still || first < 33, "%s: %d and %d cells", path.name, first, other);
                    if (first >= 16) continue;
                    const std::vector<float> none(size(kGrid * kGrid), 0.0f);
                    Registration blind(anchor.gray(), box, {}, none.data(), nullptr, 0, path.path);
                    blind.set_parameters(put);
                    follow_one(blind, frame, expected);
                    EXPECT(drawn == expected, "%s: %d and %d cells", path.name, first, other);
                }
            }
        }
    }
}

// Black, and then waves; a head put far outside, of any shape, with spots that are points, everywhere, nowhere, or one.
void test_what_is_no_face() {
    std::vector<std::uint8_t> black(240 * 320, 0);
    const Gray nothing{black.data(), 240, 320, 320};
    const Picture frame(240, 320, 0.0, 0.0, 1);
    const std::vector<float> seen = weights(1e3f);
    const double far[kParameters] = {1e4, 900.0, -900.0, 3e3, -1e4, 0.0, 2e3, -3e3};
    Skin skin(8);
    skin.set(0, {161.5f, 161.5f, 1e-38f});  // in the middle of a cell
    skin.set(1, {160.0f, 160.0f, 1e-30f});
    skin.set(2, {1e38f, -1e38f, 1e-3f});
    skin.set(3, {-1e30f, 1e30f, 1e38f});
    skin.set(4, {160.0f, 160.0f, 1e30f});
    for (int i = 5; i < 8; ++i) skin.set(i, {100.0f, 200.0f, 25.0f});
    for (const NamedPath& path : available_paths()) {
        for (const HeadShape& shape : {HeadShape{}, HeadShape{-1e4f, 1e-3f, 1e5f}, HeadShape{1e6f, 1e6f, -1e6f}}) {
            for (const Gray& anchor : {nothing, frame.gray()}) {
                Registration head(anchor, {0, 240, 0, 240}, shape, seen.data(), skin.spots(), skin.count(), path.path);
                Registration* const heads[] = {&head};
                Crop crop;
                std::uint8_t* const crops[] = {crop.pixels()};
                for (int i = 0; i < 9; ++i) {
                    if (i == 6) head.set_parameters(far);
                    metst::follow(heads, 1, i % 2 ? nothing : frame.gray(), crops, 1);
                    EXPECT(std::isfinite(largest_parameter(head)), "%s, frame %d", path.name, i);
                }
            }
        }
    }
}

void test_lanes_on_threads() {
    const Picture anchor(240, 320, 0.0, 0.0, 1), other(240, 320, 0.4, 0.4, 2);
    const std::vector<float> seen = weights();
    Skin face(kFace), most(kMost);
    const auto lanes = [&] {
        std::vector<Registration> all;
        const auto open = [&](const Picture& on, const Rect& box, const HeadShape& shape, Skin& skin) {
            all.emplace_back(on.gray(), box, shape, seen.data(), skin.spots(), skin.count());
        };
        open(anchor, {0, 200, 0, 200}, {}, face);
        open(other, {0, 200, 0, 200}, {150.0f, 80.0f, 200.0f}, face);
        open(anchor, {40, 240, 100, 320}, {}, most);
        return all;
    };
    std::vector<Registration> alone = lanes(), together = lanes();
    std::vector<Crop> expected(3), drawn(3);
    for (int i = 1; i < (kThreadsOnly ? 3 : 8); ++i) {
        const Picture frame(240, 320, -0.7 * i, 0.9 * i, static_cast<unsigned>(i));
        Registration* heads[3];
        std::uint8_t* crops[3];
        for (std::size_t k = 0; k < 3; ++k) {
            follow_one(alone[k], frame, expected[k]);
            heads[k] = &together[k];
            crops[k] = drawn[k].pixels();
        }
        metst::follow(heads, 3, frame.gray(), crops, 1 + i % 4);
        for (std::size_t k = 0; k < 3; ++k) {
            EXPECT(drawn[k] == expected[k], "frame %d, lane %zu", i, k);
            const std::size_t bytes = kParameters * sizeof(double);
            EXPECT(std::memcmp(alone[k].parameters(), together[k].parameters(), bytes) == 0, "frame %d, lane %zu", i,
                   k);
        }
    }
    metst::follow(nullptr, 0, anchor.gray(), nullptr, 3);
}

void test_callers_on_threads() {
    std::vector<std::thread> threads;
    for (int i = 0; i < 4; ++i) threads.emplace_back(test_lanes_on_threads);
    for (std::thread& thread : threads) thread.join();
}

// But for the pool's threads, which are there after the first call of so many.
void test_nothing_is_allocated_after_construction() {
    const Picture anchor(240, 320, 0.0, 0.0, 1), frame(240, 320, 1.0, -1.0, 2);
    const std::vector<float> seen = weights();
    Skin face(kFace), most(kMost);
    Registration one(anchor.gray(), {0, 200, 0, 200}, {}, seen.data(), face.spots(), kFace);
    Registration two(anchor.gray(), {40, 240, 100, 320}, {}, seen.data(), most.spots(), kMost);
    Registration bare(anchor.gray(), {40, 240, 100, 320}, {}, seen.data(), nullptr, 0);
    Crop of_one, of_two, of_bare;
    Registration* const heads[] = {&one, &two, &bare};
    std::uint8_t* const crops[] = {of_one.pixels(), of_two.pixels(), of_bare.pixels()};
    int before = allocations;
    metst::follow(heads, 3, frame.gray(), crops, 1);
    EXPECT(allocations == before, "%d on one thread", allocations - before);
    metst::follow(heads, 3, anchor.gray(), crops, 2);
    before = allocations;
    for (int i = 0; i < 5; ++i) metst::follow(heads, 3, frame.gray(), crops, 2);
    EXPECT(allocations == before, "%d on two threads", allocations - before);
}

}  // namespace

int main() {
    test_nothing_is_allocated_after_construction();
    if (!kThreadsOnly) {
        test_paths_agree();
        test_a_shift_is_found();
        test_nothing_to_look_at();
        test_few_cells_of_one_colour();
        test_what_is_no_face();
    }
    test_lanes_on_threads();
    test_callers_on_threads();
    if (failures) std::printf("%d failures\n", failures);
    return failures != 0;
}
