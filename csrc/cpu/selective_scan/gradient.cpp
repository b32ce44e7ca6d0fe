// Checks the arguments of the scan's gradient, cuts the batch into rows, each a task for the implementation for this
// CPU, and adds up what the rows share.
#include "metst/selective_scan_gradient.h"

#include <algorithm>
#include <initializer_list>
#include <limits>

#include "dispatch.h"
#include "flush_subnormals.h"
#include "metst/aligned_floats.h"
#include "pieces.h"
#include "selective_scan/loops.h"
#include "task_pool.h"

namespace metst {
namespace {

bool any_array_missing(const SelectiveScanGradientArgs& a) {
    const auto missing = [](std::int64_t size, std::initializer_list<const float*> arrays) {
        if (size == 0) return false;
        for (const float* array : arrays) {
            if (!array) return true;
        }
        return false;
    };
    return missing(a.batch * a.length * a.channels, {a.u, a.delta, a.z, a.grad_y, a.grad_u, a.grad_delta, a.grad_z}) ||
           missing(a.batch * a.length * a.states, {a.B, a.C, a.grad_B, a.grad_C}) ||
           missing(a.channels * a.states, {a.A, a.grad_A}) ||
           missing(a.channels, {a.D, a.delta_bias, a.grad_D, a.grad_delta_bias});
}

std::int64_t cut(Pieces pieces, const SelectiveScanGradientArgs& a, ScanGradientScratch& s) {
    const auto padded = [](std::int64_t n) {
        return (n + Pieces::kAlignment - 1) / Pieces::kAlignment * Pieces::kAlignment;
    };
    s.stride = padded(a.states);
    for (float** of_states : {&s.B, &s.C, &s.grad_B, &s.grad_C}) *of_states = pieces.floats(a.length * s.stride);
    for (float** of_block : {&s.dt, &s.x, &s.q, &s.h_c, &s.g_b, &s.p_a}) {
        *of_block = pieces.floats(padded(a.length) * ScanGradientScratch::kChannels);
    }
    s.decay = pieces.floats(a.length * ScanGradientScratch::kState);
    s.h = pieces.floats((a.length + 1) * ScanGradientScratch::kState);
    return pieces.used();
}

struct Rows {
    const SelectiveScanGradientArgs& all;
    SimdPath path;
    AlignedFloats by_A, by_D, by_bias;  // (B, D, N), (B, D), (B, D): every row's share

    Rows(const SelectiveScanGradientArgs& args, SimdPath chosen)
        : all(args),
          path(chosen),
          by_A(args.batch * args.channels * args.states),
          by_D(args.batch * args.channels),
          by_bias(args.batch * args.channels) {}

    void run(std::int64_t b) {
        SelectiveScanGradientArgs row = all;
        row.batch = 1;
        const std::int64_t of_steps = b * all.length * all.channels, of_rows = b * all.length * all.states;
        for (const float** p : {&row.u, &row.delta, &row.z, &row.grad_y}) *p += of_steps;
        for (float** p : {&row.grad_u, &row.grad_delta, &row.grad_z}) *p += of_steps;
        for (const float** p : {&row.B, &row.C}) *p += of_rows;
        for (float** p : {&row.grad_B, &row.grad_C}) *p += of_rows;
        const std::int64_t of_states = b * all.channels * all.states;
        for (const float** p : {&row.h0, &row.grad_h}) {
            if (*p) *p += of_states;
        }
        if (row.grad_h0) row.grad_h0 += of_states;
        row.grad_A = by_A.data() + of_states;
        row.grad_D = by_D.data() + b * all.channels;
        row.grad_delta_bias = by_bias.data() + b * all.channels;

        ScanGradientScratch scratch;
        AlignedFloats memory(cut(Pieces(), all, scratch));
        cut(Pieces(memory.data()), all, scratch);
        const FlushSubnormals flush;
        on_path(path, [&](auto chosen) { selective_scan_gradient_on<chosen>(row, scratch); });
    }

    // One after the other, so that the result does not depend on who computed which row.
    void add_up(const AlignedFloats& shares, std::int64_t size, float* sum) const {
        std::fill_n(sum, size, 0.0f);
        for (std::int64_t b = 0; b < all.batch; ++b) {
            for (std::int64_t i = 0; i < size; ++i) sum[i] += shares.data()[b * size + i];
        }
    }
};

}  // namespace

Status selective_scan_gradient(const SelectiveScanGradientArgs& args, int threads, SimdPath path) {
    constexpr std::int64_t kMostRows = std::numeric_limits<int>::max();
    if (args.batch < 0 || args.length < 0 || args.channels < 0 || args.states < 0) return Status::kBadSize;
    if (args.batch > kMostRows) return Status::kBadSize;
    if (any_array_missing(args)) return Status::kNullPointer;
    if (!simd_available(path)) return Status::kUnavailablePath;

    Rows rows(args, path);
    run_tasks([](void* context, int b) { static_cast<Rows*>(context)->run(b); }, &rows, static_cast<int>(args.batch),
              threads);
    rows.add_up(rows.by_A, args.channels * args.states, args.grad_A);
    rows.add_up(rows.by_D, args.channels, args.grad_D);
    rows.add_up(rows.by_bias, args.channels, args.grad_delta_bias);
    return Status::kOk;
}

}  // namespace metst
