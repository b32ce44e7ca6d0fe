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
constexpr double kStiffness = 2.0;         // of spots, against their shifts in pixels; of squared tolerances
constexpr double kFarthest = 2.0 * kSize;  // pixels
static_assert(kSize <= kLongestRow, "a row of the crop is sampled at once");

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
        const int i = std::min(static_cast<int>(at), kSize - 2);
        return values[size(i)] + (at - static_cast<float>(i)) * (values[size(i) + 1] - values[size(i)]);
    }
};

// Columns that divide the crop evenly, and the depths there, without what the row has to do with them.
struct Places {
    std::vector<float> columns, depth, nose;

    Places(const Basis& basis, int count) {
        const float apart = static_cast<float>(kSize) / static_cast<float>(count);
        for (int i = 0; i < count; ++i) {
            const float column = apart * (static_cast<float>(i) + 0.5f) - 0.5f;
            columns.push_back(column);
            depth.push_back(Basis::between(basis.column, column));
            nose.push_back(Basis::between(basis.nose_column, column));
        }
    }
};

// Solves a x = b, a symmetric and positive definite: rows of its lower triangle, n apart.
void solve(std::vector<double>& a, std::vector<double>& b, int n) {
    const auto at = [&](int i, int j) -> double& { return a[size(i * n + j)]; };
    for (int i = 0; i < n; ++i) {
        for (int j = 0; j <= i; ++j) {
            double sum = at(i, j);
            for (int k = 0; k < j; ++k) sum -= at(i, k) * at(j, k);
            at(i, j) = i == j ? std::sqrt(std::max(sum, 1e-12)) : sum / at(j, j);
        }
        for (int k = 0; k < i; ++k) b[size(i)] -= at(i, k) * b[size(k)];
        b[size(i)] /= at(i, i);
    }
    for (int i = n - 1; i >= 0; --i) {
        for (int k = i + 1; k < n; ++k) b[size(i)] -= at(k, i) * b[size(k)];
        b[size(i)] /= at(i, i);
    }
}

}  // namespace

struct Registration::State {
    const RegistrationLoops& loops;
    Rect box;
    Basis basis;
    std::array<double, kParameters> parameters{};
    std::vector<Spot> spots;
    int functions, terms;  // of a displacement along one axis; unknowns of a step, filled up to whole blocks
    // Of the cells that count, rows of `stride`: padded with weight 0 to whole vectors. Every other one comes first.
    int cells = 0, first_cells = 0;
    std::ptrdiff_t stride = 0;
    std::vector<float> basis_rows, jacobian, weights, x, y, anchor, residual, weighted, sums, right;
    std::vector<double> matrix, step, moved;
    Places pixels, dense;  // of the crop; of what the reduced picture is the mean of
    std::vector<float> reduced, scratch, rows;

    State(const Gray& picture, const Rect& box_, const HeadShape& shape, const float* given, const Spot* spots_,
          int spot_count, SimdPath path)
        : loops(on_path(path, [](auto chosen) -> const RegistrationLoops& { return registration_loops_on<chosen>(); })),
          box(box_),
          basis(shape),
          spots(spots_, spots_ + spot_count),
          functions(kHalf + spot_count),
          terms((2 * functions + 2 + kBlock - 1) / kBlock * kBlock),
          pixels(basis, kSize),
          dense(basis, kDense),
          reduced(size(kGrid * kGrid)),
          scratch(reduced.size()),
          rows(2 * size(kSize)) {
        reduce(picture);
        // Cells at the border have no slope. Like squares of a chessboard: the matrix is summed over one colour only.
        std::vector<int> counted[2];
        for (int i = 1; i < kGrid - 1; ++i) {
            for (int j = 1; j < kGrid - 1; ++j) {
                if (given[i * kGrid + j] > 0.0f) counted[(i + j) % 2].push_back(i * kGrid + j);
            }
        }
        first_cells = static_cast<int>(counted[0].size()) / 16 * 16;
        counted[0].insert(counted[0].end(), counted[1].begin(), counted[1].end());
        cells = static_cast<int>(counted[0].size());
        stride = (cells + 15) / 16 * 16;
        const std::size_t length = size(static_cast<int>(stride));
        basis_rows.resize(size(functions) * length);
        jacobian.resize(size(terms) * length);
        weighted.resize(jacobian.size());
        for (std::vector<float>* each : {&weights, &x, &y, &anchor, &residual}) each->resize(length);
        sums.resize(size(terms) * size(terms));
        matrix.resize(sums.size());
        right.resize(size(terms));
        step.resize(size(terms));
        moved.resize(size(2 * functions));
        for (int cell = 0; cell < cells; ++cell) {
            const int place = counted[0][size(cell)];
            take(cell, place / kGrid, place % kGrid, given[place]);
        }
    }

    void take(int cell, int i, int j, float weight) {
        const float* const p = reduced.data() + i * kGrid + j;
        const float column = static_cast<float>(kCell * j) + 1.5f, line = static_cast<float>(kCell * i) + 1.5f;
        const float across = (p[1] - p[-1]) / (2.0f * kCell), down = (p[kGrid] - p[-kGrid]) / (2.0f * kCell);
        const auto function = [&](int k) {
            if (k == 0) return 1.0f;
            if (k == 1) return (column - kMiddle) / kUnit;
            if (k == 2) return (line - kMiddle) / kUnit;
            if (k == 3) {
                return Basis::between(basis.column, column) +
                       Basis::between(basis.nose_column, column) * Basis::between(basis.nose_row, line);
            }
            const Spot& spot = spots[size(k - kHalf)];
            const float dx = (column - spot.x) / spot.reach, dy = (line - spot.y) / spot.reach;
            return std::exp(-0.5f * (dx * dx + dy * dy));
        };
        float* const out = jacobian.data() + cell;
        for (int k = 0; k < functions; ++k) {
            const float f = function(k);
            basis_rows[size(static_cast<int>(k * stride)) + size(cell)] = f;
            out[k * stride] = f * across;
            out[(functions + k) * stride] = f * down;
        }
        out[2 * functions * stride] = kContrast * *p;
        out[(2 * functions + 1) * stride] = 1.0f;
        weights[size(cell)] = weight;
        x[size(cell)] = static_cast<float>(j);
        y[size(cell)] = static_cast<float>(i);
        anchor[size(cell)] = *p;
    }

    // Reads a row of places where the head has taken them.
    void sample(const Gray& frame, const Places& places, float line, float* out) {
        const double across = static_cast<double>(box.width()) / kSize,
                     down = static_cast<double>(box.height()) / kSize;
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
        args.columns = places.columns.data();
        args.depth = places.depth.data();
        args.nose = places.nose.data();
        args.nose_share = Basis::between(basis.nose_row, line);
        args.x0 = static_cast<float>((constant(u) + 0.5) * across - 0.5 + box.left);
        args.x1 = static_cast<float>((1.0 + u[1] / static_cast<double>(kUnit)) * across);
        args.x2 = static_cast<float>(u[3] * across);
        args.y0 = static_cast<float>((constant(v) + static_cast<double>(line) + 0.5) * down - 0.5 + box.top);
        args.y1 = static_cast<float>(v[1] / static_cast<double>(kUnit) * down);
        args.y2 = static_cast<float>(v[3] * down);
        args.out = out;
        args.count = static_cast<int>(places.columns.size());
        loops.sample_row(args);
    }

    // The reduced picture of a frame, drawn as if the head had moved by the parameters.
    void reduce(const Gray& frame) {
        float* const upper = rows.data();
        float* const lower = upper + kSize;
        for (int i = 0; i < kGrid; ++i) {
            const float line = static_cast<float>(kCell * i) + 0.5f;
            sample(frame, dense, line, upper);
            sample(frame, dense, line + 2.0f, lower);
            loops.halve(upper, lower, kGrid, reduced.data() + i * kGrid);
        }
        loops.reduce({reduced.data(), scratch.data(), kGrid});
    }

    // Solves for the next step and takes it; false where it was the last.
    bool solve_step(float tolerance) {
        const double all = static_cast<double>(cells) / first_cells;  // of the cells over those that were summed
        const double stiffness = kStiffness * static_cast<double>(tolerance) * static_cast<double>(tolerance);
        for (int j = 0; j < terms; ++j) {
            for (int l = 0; l <= j; ++l)
                matrix[size(j * terms + l)] = all * static_cast<double>(sums[size(j * terms + l)]);
            double& own = matrix[size(j * terms + j)];
            step[size(j)] = static_cast<double>(right[size(j)]);
            const int function = j < 2 * functions ? j % functions : 0;
            if (function < kHalf) {
                own += kDamping * own + 1e-6;
            } else {
                own += stiffness;
                step[size(j)] += stiffness * moved[size(j)];
            }
        }
        solve(matrix, step, terms);
        double largest = 0.0;
        for (int k = 0; k < 2 * functions; ++k) {
            moved[size(k)] -= step[size(k)];
            if (k % functions < kHalf) largest = std::max(largest, std::abs(step[size(k)]));
        }
        return largest >= kDone;
    }

    void fit(const Gray& frame) {
        if (first_cells == 0) return;
        reduce(frame);
        std::fill(moved.begin(), moved.end(), 0.0);
        float in_cells[2 * (kHalf + kMostSpots)];
        for (int i = 0; i < kSteps; ++i) {
            for (int k = 0; k < 2 * functions; ++k) in_cells[k] = static_cast<float>(moved[size(k)] / kCell);
            loops.residual({reduced.data(), kGrid, basis_rows.data(), functions, x.data(), y.data(), anchor.data(),
                            in_cells, residual.data(), static_cast<int>(stride), stride});
            const float tolerance = kTolerance * loops.median(residual.data(), cells) + kNoise;
            loops.normal({jacobian.data(), terms, weights.data(), residual.data(), tolerance, static_cast<int>(stride),
                          first_cells, stride, weighted.data(), sums.data(), right.data()});
            if (!solve_step(tolerance)) break;
        }
        // The step was found on the picture as drawn: taken on as the head has been moved already.
        std::array<double, kParameters> next = parameters;
        const double xx = 1.0 + parameters[1] / kUnit, xy = parameters[2] / kUnit;
        const double yx = parameters[kHalf + 1] / kUnit, yy = 1.0 + parameters[kHalf + 2] / kUnit;
        bool near = true;
        for (int k = 0; k < kHalf; ++k) {
            const double across = moved[size(k)], down = moved[size(functions + k)];
            next[size(k)] += xx * across + xy * down;
            next[size(kHalf + k)] += yx * across + yy * down;
            near = near && std::abs(next[size(k)]) < kFarthest && std::abs(next[size(kHalf + k)]) < kFarthest;
        }
        if (near) parameters = next;  // else no head moves so: whatever is seen is not the face
    }

    void draw(const Gray& frame, std::uint8_t* out) {
        for (int i = 0; i < kSize; ++i) {
            sample(frame, pixels, static_cast<float>(i), rows.data());
            loops.round_row(rows.data(), kSize, out + i * kSize);
        }
    }
};

Registration::Registration(Gray anchor, Rect box, const HeadShape& shape, const float* weights, const Spot* spots,
                           int spot_count, SimdPath path)
    : state_(std::make_unique<State>(anchor, box, shape, weights, spots, spot_count, path)) {}
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
