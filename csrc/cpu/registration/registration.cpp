// Registration: the motion of a head between two pictures, and the picture drawn without it.
#include "metst/registration.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "registration/loops.h"
#include "roi_flow_plan.h"
#include "task_pool.h"

namespace metst {
namespace {

constexpr int kSize = Registration::kCropSize, kGrid = Registration::kGrid, kHalf = Registration::kParameters / 2;
constexpr int kCell = kSize / kGrid, kDense = 2 * kGrid;  // what the reduced picture is the mean of: 2 x 2 a cell
constexpr float kMiddle = (kSize - 1) / 2.0f, kUnit = 100.0f;
// A cylinder a little wider than the head, flattened towards its sides, and a nose a quarter of its width high.
constexpr float kWiden = 1.15f, kDeepest = 0.02f, kRoundness = 0.9f, kNose = 0.25f, kNoseReach = 0.16f;
constexpr int kSteps = 6;
constexpr double kDone = 0.02;                       // pixels; a smaller step is the last
constexpr float kTolerance = 2.25f, kNoise = 0.45f;  // of the median difference, and gray levels
constexpr float kContrast = 1.0f / 50.0f;
constexpr double kDamping = 1e-3;
constexpr double kFarthest = 2.0 * kSize;  // pixels

// The four displacements of the crop, apart along rows and columns: depth = column + nose_column * nose_row.
struct Basis {
    std::array<float, kSize> column, nose_column, nose_row;

    explicit Basis(const HeadShape& shape) {
        const float reach = kNoseReach * shape.half_width;
        const auto bump = [&](float away) { return std::exp(-away * away / (2.0f * reach * reach)); };
        for (int i = 0; i < kSize; ++i) {
            const float across = static_cast<float>(i) - shape.middle;
            const float share = across / (kWiden * shape.half_width);
            column[size(i)] =
                kRoundness * shape.half_width * std::sqrt(std::max(1.0f - share * share, kDeepest)) / kUnit;
            nose_column[size(i)] = kNose * shape.half_width * bump(across) / kUnit;
            nose_row[size(i)] = bump(static_cast<float>(i) - shape.nose_row);
        }
        double mean_column = 0.0, mean_nose = 0.0, mean_row = 0.0;
        for (int i = 0; i < kSize; ++i) {
            mean_column += static_cast<double>(column[size(i)]);
            mean_nose += static_cast<double>(nose_column[size(i)]);
            mean_row += static_cast<double>(nose_row[size(i)]);
        }
        const double mean = (mean_column + mean_nose * mean_row / kSize) / kSize;
        for (float& each : column) each -= static_cast<float>(mean);
    }

    // Between pixels: where `at` of them is a half.
    static float between(const std::array<float, kSize>& values, float at) {
        const int i = static_cast<int>(at);
        return values[size(i)] + (at - static_cast<float>(i)) * (values[size(i) + 1] - values[size(i)]);
    }
};

// Solves a x = b, a symmetric and positive definite: lower triangle by rows.
void solve(std::array<double, kSums>& a, std::array<double, kTerms>& b) {
    const auto at = [&](int i, int j) -> double& { return a[size(i * (i + 1) / 2 + j)]; };
    for (int i = 0; i < kTerms; ++i) {
        for (int j = 0; j <= i; ++j) {
            double sum = at(i, j);
            for (int k = 0; k < j; ++k) sum -= at(i, k) * at(j, k);
            at(i, j) = i == j ? std::sqrt(std::max(sum, 1e-12)) : sum / at(j, j);
        }
        for (int k = 0; k < i; ++k) b[size(i)] -= at(i, k) * b[size(k)];
        b[size(i)] /= at(i, i);
    }
    for (int i = kTerms - 1; i >= 0; --i) {
        for (int k = i + 1; k < kTerms; ++k) b[size(i)] -= at(k, i) * b[size(k)];
        b[size(i)] /= at(i, i);
    }
}

}  // namespace

struct Registration::State {
    const RegistrationLoops& loops;
    Rect box;
    Basis basis;
    std::array<double, kParameters> parameters{};
    // Of the cells that count, rows of `stride`: padded with weight 0 to whole vectors.
    int cells = 0;
    std::ptrdiff_t stride = 0;
    std::vector<float> functions, jacobian, weights, x, y, anchor, residual, sorted;
    std::vector<float> reduced, scratch, columns, dense_columns, depth, row;

    State(const Gray& picture, const Rect& box_, const HeadShape& shape, const float* given, SimdPath path)
        : loops(on_path(path, [](auto chosen) -> const RegistrationLoops& { return registration_loops_on<chosen>(); })),
          box(box_),
          basis(shape),
          reduced(size(kGrid * kGrid)),
          scratch(reduced.size()),
          columns(size(kSize)),
          dense_columns(size(kDense)),
          depth(size(kSize)),
          row(size(kSize)) {
        for (int i = 0; i < kSize; ++i) columns[size(i)] = static_cast<float>(i);
        for (int i = 0; i < kDense; ++i) dense_columns[size(i)] = 2.0f * static_cast<float>(i) + 0.5f;
        reduce(picture);
        // Cells at the border have no slope.
        for (int i = 1; i < kGrid - 1; ++i) {
            for (int j = 1; j < kGrid - 1; ++j) cells += given[i * kGrid + j] > 0.0f;
        }
        stride = (cells + 15) / 16 * 16;
        const std::size_t length = size(static_cast<int>(stride));
        functions.resize(kHalf * length);
        jacobian.resize(kTerms * length);
        for (std::vector<float>* each : {&weights, &x, &y, &anchor, &residual}) each->resize(length);
        sorted.resize(length);
        int cell = 0;
        for (int i = 1; i < kGrid - 1; ++i) {
            for (int j = 1; j < kGrid - 1; ++j) {
                const float weight = given[i * kGrid + j];
                if (weight > 0.0f) take(cell++, i, j, weight);
            }
        }
    }

    void take(int cell, int i, int j, float weight) {
        const float* const p = reduced.data() + i * kGrid + j;
        const float column = static_cast<float>(kCell * j) + 1.5f, line = static_cast<float>(kCell * i) + 1.5f;
        const float f[kHalf] = {1.0f, (column - kMiddle) / kUnit, (line - kMiddle) / kUnit,
                                Basis::between(basis.column, column) +
                                    Basis::between(basis.nose_column, column) * Basis::between(basis.nose_row, line)};
        const float across = (p[1] - p[-1]) / (2.0f * kCell), down = (p[kGrid] - p[-kGrid]) / (2.0f * kCell);
        float* const out = jacobian.data() + cell;
        for (int k = 0; k < kHalf; ++k) {
            functions[size(static_cast<int>(k * stride)) + size(cell)] = f[k];
            out[k * stride] = f[k] * across;
            out[(kHalf + k) * stride] = f[k] * down;
        }
        out[2 * kHalf * stride] = kContrast * *p;
        out[(2 * kHalf + 1) * stride] = 1.0f;
        weights[size(cell)] = weight;
        x[size(cell)] = static_cast<float>(j);
        y[size(cell)] = static_cast<float>(i);
        anchor[size(cell)] = *p;
    }

    // Reads a row of the crop, or of places between its pixels, where the head has taken it.
    void sample(const Gray& frame, const std::vector<float>& at, float line, float* out) {
        const double across = static_cast<double>(box.width()) / kSize,
                     down = static_cast<double>(box.height()) / kSize;
        const float nose = Basis::between(basis.nose_row, std::min(line, kSize - 1.0001f));
        const int count = static_cast<int>(at.size());
        for (int i = 0; i < count; ++i) {
            const float column = std::min(at[size(i)], kSize - 1.0001f);
            depth[size(i)] = Basis::between(basis.column, column) + nose * Basis::between(basis.nose_column, column);
        }
        const double from_middle =
            (static_cast<double>(line) - static_cast<double>(kMiddle)) / static_cast<double>(kUnit);
        const auto constant = [&](const double* p) {
            return p[0] - p[1] * static_cast<double>(kMiddle) / static_cast<double>(kUnit) + p[2] * from_middle;
        };
        const double *u = parameters.data(), *v = u + kHalf;
        SampleRowArgs args;
        args.pixels = frame.pixels;
        args.pixel_stride = frame.stride;
        args.height = frame.height;
        args.width = frame.width;
        args.columns = at.data();
        args.depth = depth.data();
        args.x0 = static_cast<float>((constant(u) + 0.5) * across - 0.5 + box.left);
        args.x1 = static_cast<float>((1.0 + u[1] / static_cast<double>(kUnit)) * across);
        args.x2 = static_cast<float>(u[3] * across);
        args.y0 = static_cast<float>((constant(v) + static_cast<double>(line) + 0.5) * down - 0.5 + box.top);
        args.y1 = static_cast<float>(v[1] / static_cast<double>(kUnit) * down);
        args.y2 = static_cast<float>(v[3] * down);
        args.out = out;
        args.count = count;
        loops.sample_row(args);
    }

    // The reduced picture of a frame, drawn as if the head had moved by the parameters.
    void reduce(const Gray& frame) {
        for (int i = 0; i < kGrid; ++i) {
            float* const out = reduced.data() + i * kGrid;
            for (int half = 0; half < 2; ++half) {
                sample(frame, dense_columns, static_cast<float>(kCell * i + 2 * half) + 0.5f, row.data());
                for (int j = 0; j < kGrid; ++j) {
                    const float mean = 0.25f * (row[size(2 * j)] + row[size(2 * j + 1)]);
                    out[j] = half ? out[j] + mean : mean;
                }
            }
        }
        loops.reduce({reduced.data(), scratch.data(), kGrid});
    }

    float median() {
        std::transform(residual.begin(), residual.begin() + cells, sorted.begin(), [](float r) { return std::abs(r); });
        const auto middle = sorted.begin() + cells / 2;
        std::nth_element(sorted.begin(), middle, sorted.begin() + cells);
        return *middle;
    }

    void fit(const Gray& frame) {
        if (cells == 0) return;
        reduce(frame);
        std::array<double, kParameters> moved{};
        for (int i = 0; i < kSteps; ++i) {
            float step[kParameters];
            for (int k = 0; k < kParameters; ++k) step[k] = static_cast<float>(moved[size(k)] / kCell);
            loops.residual({reduced.data(), kGrid, functions.data(), x.data(), y.data(), anchor.data(), step,
                            residual.data(), cells, stride});
            float sums[kSums], right[kTerms];
            loops.normal({jacobian.data(), weights.data(), residual.data(), kTolerance * median() + kNoise,
                          static_cast<int>(stride), stride, sums, right});
            std::array<double, kSums> a;
            std::array<double, kTerms> b;
            for (int j = 0, s = 0; j < kTerms; ++j) {
                for (int l = 0; l <= j; ++l, ++s) {
                    a[size(s)] = static_cast<double>(sums[s]);
                    if (l == j) a[size(s)] += kDamping * a[size(s)] + 1e-6;
                }
                b[size(j)] = static_cast<double>(right[j]);
            }
            solve(a, b);
            double largest = 0.0;
            for (int k = 0; k < kParameters; ++k) {
                moved[size(k)] -= b[size(k)];
                largest = std::max(largest, std::abs(b[size(k)]));
            }
            if (!(largest >= kDone)) break;
        }
        // The step was found on the picture as drawn: taken on as the head has been moved already.
        std::array<double, kParameters> next = parameters;
        const double xx = 1.0 + parameters[1] / kUnit, xy = parameters[2] / kUnit;
        const double yx = parameters[kHalf + 1] / kUnit, yy = 1.0 + parameters[kHalf + 2] / kUnit;
        bool near = true;
        for (int k = 0; k < kHalf; ++k) {
            const double right = moved[size(k)], down = moved[size(kHalf + k)];
            next[size(k)] += xx * right + xy * down;
            next[size(kHalf + k)] += yx * right + yy * down;
            near = near && std::abs(next[size(k)]) < kFarthest && std::abs(next[size(kHalf + k)]) < kFarthest;
        }
        if (near) parameters = next;  // else no head moves so: whatever is seen is not the face
    }

    void draw(const Gray& frame, std::uint8_t* out) {
        for (int i = 0; i < kSize; ++i) {
            sample(frame, columns, static_cast<float>(i), row.data());
            std::uint8_t* const line = out + i * kSize;
            for (int j = 0; j < kSize; ++j) line[j] = static_cast<std::uint8_t>(row[size(j)] + 0.5f);
        }
    }
};

Registration::Registration(Gray anchor, Rect box, const HeadShape& shape, const float* weights, SimdPath path)
    : state_(std::make_unique<State>(anchor, box, shape, weights, path)) {}
Registration::~Registration() = default;
Registration::Registration(Registration&&) noexcept = default;
const double* Registration::parameters() const { return state_->parameters.data(); }
void Registration::set_parameters(const double* parameters) {
    std::copy(parameters, parameters + kParameters, state_->parameters.begin());
}

namespace {

struct FollowTask {
    Registration* const* heads;
    const Gray& frame;
    std::uint8_t* const* crops;

    static void follow(void* context, int i) {
        const FollowTask& self = *static_cast<FollowTask*>(context);
        Registration::State& head = self.heads[i]->state();
        head.fit(self.frame);
        head.draw(self.frame, self.crops[i]);
    }
};

}  // namespace

void follow(Registration* const* heads, int count, Gray frame, std::uint8_t* const* crops, int threads) {
    FollowTask task{heads, frame, crops};
    run_tasks(FollowTask::follow, &task, count, threads);
}

}  // namespace metst
