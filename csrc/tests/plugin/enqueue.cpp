// What the plugin has the kernel do: with the fake of the kernel on the host, with the real one on the GPU.
#include <cuda_fp16.h>
#include <cuda_runtime_api.h>

#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "driver.h"
#include "selective_scan_reference.h"
#include "tests.h"

namespace {

// Arrays where the kernel can read them: on the GPU for the real library, on the host for the fake.
class Memory {
public:
    ~Memory() {
        for (void* array : arrays_) release(array);
    }
    void* upload(const void* bytes, std::size_t size) {
        void* array = allocate(size);
        arrays_.push_back(array);
        copy(array, bytes, size, cudaMemcpyHostToDevice);
        return array;
    }
    void download(void* bytes, const void* array, std::size_t size) {
        copy(bytes, array, size, cudaMemcpyDeviceToHost);
    }

private:
#ifdef METST_TEST_CUDA
    static bool on_host() { return library.fake != nullptr; }
    static void* allocate(std::size_t size) {
        if (on_host()) return std::malloc(size + 1);
        void* array = nullptr;
        EXPECT(cudaMalloc(&array, size + 1) == cudaSuccess, "cudaMalloc of %zu bytes", size);
        return array;
    }
    static void copy(void* to, const void* from, std::size_t size, cudaMemcpyKind kind) {
        if (on_host()) {
            std::memcpy(to, from, size);
        } else {
            EXPECT(cudaMemcpy(to, from, size, kind) == cudaSuccess, "cudaMemcpy of %zu bytes", size);
        }
    }
    static void release(void* array) { on_host() ? std::free(array) : static_cast<void>(cudaFree(array)); }
#else
    static void* allocate(std::size_t size) { return std::malloc(size + 1); }
    static void copy(void* to, const void* from, std::size_t size, cudaMemcpyKind) { std::memcpy(to, from, size); }
    static void release(void* array) { std::free(array); }
#endif
    std::vector<void*> arrays_;
};

std::size_t count_of(const Tensor& tensor, Sizes sizes) {
    std::size_t count = 1;
    for (const char* axis = tensor.axes; *axis != '\0'; ++axis) count *= static_cast<std::size_t>(sizes[*axis]);
    return count;
}

double rounded(double value, DataType type) {
    const float single = static_cast<float>(value);
    return static_cast<double>(type == kHalf ? __half2float(__float2half(single)) : single);
}

std::vector<char> as_bytes(const std::vector<double>& values, DataType type) {
    std::vector<char> bytes(values.size() * (type == kHalf ? 2 : 4));
    for (std::size_t i = 0; i < values.size(); ++i) {
        const float single = static_cast<float>(values[i]);
        const __half half = __float2half(single);
        if (type == kHalf) {
            std::memcpy(bytes.data() + 2 * i, &half, 2);
        } else {
            std::memcpy(bytes.data() + 4 * i, &single, 4);
        }
    }
    return bytes;
}

// A scan with arrays in the order of kInputs, as a network would hold them.
struct Problem {
    int optional;
    Types types;
    Sizes sizes;
    bool softplus;
    Memory memory;
    std::vector<std::vector<double>> values;  // of kInputs, rounded to their types; empty: left out
    std::vector<const void*> in;              // of those that are there
    std::vector<void*> out;
    void* workspace;
    Described described;

    Problem(int optional_, Types types_, Sizes sizes_, bool softplus_, unsigned seed)
        : optional(optional_), types(types_), sizes(sizes_), softplus(softplus_), described(optional_, types_, sizes_) {
        std::mt19937 generator(seed);
        std::normal_distribution<double> normal;
        for (const Tensor& tensor : kInputs) {
            values.emplace_back();
            if (tensor.bit != 0 && (optional & tensor.bit) == 0) continue;
            const std::string name = tensor.name;
            for (std::size_t i = 0; i < count_of(tensor, sizes); ++i) {
                double value = normal(generator);
                if (name == "A") value = -std::exp(value);
                if (!softplus && (name == "delta" || name == "delta_bias")) value = 0.1 + std::fabs(value);
                values.back().push_back(rounded(value, type_of(tensor, types)));
            }
            const std::vector<char> bytes = as_bytes(values.back(), type_of(tensor, types));
            in.push_back(memory.upload(bytes.data(), bytes.size()));
        }
        for (const Tensor& tensor : kOutputs) {
            const std::vector<double> nothing(count_of(tensor, sizes), std::numeric_limits<double>::quiet_NaN());
            const std::vector<char> bytes = as_bytes(nothing, type_of(tensor, types));
            out.push_back(memory.upload(bytes.data(), bytes.size()));
        }
        const std::vector<char> space(
            DescribedBounds(optional, types, sizes, sizes, sizes).workspace(create(softplus, optional)));
        workspace = memory.upload(space.data(), space.size());
    }
    int enqueue(const Plugin& plugin, cudaStream_t stream) {
        return runtime(plugin).enqueue(described.in.data(), described.out.data(), in.data(), out.data(), workspace,
                                       stream);
    }
    const std::vector<double>& value(const char* name) const {
        for (std::size_t i = 0; i < kInputs.size(); ++i) {
            if (std::strcmp(kInputs[i].name, name) == 0) return values[i];
        }
        std::abort();
    }
    std::vector<double> output(std::size_t index) {
        const DataType type = type_of(kOutputs[index], types);
        std::vector<char> bytes(count_of(kOutputs[index], sizes) * (type == kHalf ? 2 : 4));
        memory.download(bytes.data(), out[index], bytes.size());
        std::vector<double> result;
        for (std::size_t i = 0; i < count_of(kOutputs[index], sizes); ++i) {
            float single;
            __half half;
            std::memcpy(type == kHalf ? static_cast<void*>(&half) : &single, bytes.data() + i * (type == kHalf ? 2 : 4),
                        type == kHalf ? 2 : 4);
            result.push_back(static_cast<double>(type == kHalf ? __half2float(half) : single));
        }
        return result;
    }
};

ScanOutputs reference(const Problem& p) {
    ScanInputs in;
    in.batch = static_cast<std::size_t>(p.sizes.B);
    in.length = static_cast<std::size_t>(p.sizes.L);
    in.channels = static_cast<std::size_t>(p.sizes.D);
    in.states = static_cast<std::size_t>(p.sizes.N);
    in.u = p.value("u");
    in.delta = p.value("delta");
    in.A = p.value("A");
    in.B = p.value("B");
    in.C = p.value("C");
    in.D = p.value("D");
    in.z = p.value("z");
    in.delta_bias = p.value("delta_bias");
    in.h0 = p.value("h0");
    in.delta_softplus = p.softplus;
    return reference(in);
}

void expect_matches_reference(Problem& p, const char* what) {
    const auto [y, h] = reference(p);
    const double y_error = relative_error(p.output(0).data(), y), h_error = relative_error(p.output(1).data(), h);
    const double tolerance = p.types.data == kHalf ? 1e-3 : 1e-4;  // half rounds y to 11 bits
    EXPECT(y_error <= tolerance && h_error <= 1e-4, "%s optional %d types %d %d softplus %d: y %.2g h %.2g", what,
           p.optional, static_cast<int>(p.types.data), static_cast<int>(p.types.delta), p.softplus, y_error, h_error);
}

void every_input_reaches_the_kernel(cudaStream_t stream) {
    unsigned seed = 0;
    for (std::int32_t optional = 0; optional <= kAll; ++optional) {
        for (Types types : kTypes) {
            for (bool softplus : {false, true}) {
                Problem p(optional, types, {2, 5, 6, 7}, softplus, ++seed);
                const Plugin plugin = create(softplus, optional);
                EXPECT(p.described.accepted_by(plugin), "optional %d", optional);
                EXPECT(p.enqueue(plugin, stream) == 0, "optional %d", optional);
#ifdef METST_TEST_CUDA
                if (library.fake == nullptr)
                    EXPECT(cudaStreamSynchronize(stream) == cudaSuccess, "optional %d", optional);
#endif
                expect_matches_reference(p, "inputs");
            }
        }
    }
}

void the_kernel_is_called_once_with_tensorrts_own_pointers() {
    FakeScan& fake = *library.fake;
    int mark = 0;
    cudaStream_t stream = reinterpret_cast<cudaStream_t>(&mark);
    for (std::int32_t optional = 0; optional <= kAll; ++optional) {
        for (Types types : kTypes) {
            Problem p(optional, types, {2, 3, 4, 5}, false, 1);
            const int before = fake.calls;
            EXPECT(p.enqueue(create(0, optional), stream) == 0, "optional %d", optional);
            const metst::cuda::SelectiveScanArgs& args = fake.args;
            EXPECT(fake.calls == before + 1 && fake.stream == stream, "calls %d", fake.calls - before);
            EXPECT(args.batch == 2 && args.length == 3 && args.channels == 4 && args.states == 5, "sizes");
            EXPECT(args.type == (types.data == kHalf ? metst::cuda::Type::kFloat16 : metst::cuda::Type::kFloat32), "T");
            EXPECT(
                args.delta_type == (types.delta == kHalf ? metst::cuda::Type::kFloat16 : metst::cuda::Type::kFloat32),
                "T_delta");
            const void* given[] = {args.u, args.delta, args.A,          args.B, args.C,
                                   args.D, args.z,     args.delta_bias, args.h0};
            std::size_t next = 0;
            for (std::size_t i = 0; i < kInputs.size(); ++i) {
                const bool there = kInputs[i].bit == 0 || (optional & kInputs[i].bit) != 0;
                EXPECT(given[i] == (there ? p.in[next] : nullptr), "optional %d %s", optional, kInputs[i].name);
                if (there) ++next;
            }
            EXPECT(args.y == p.out[0] && args.h == p.out[1] && args.workspace == p.workspace, "outputs");
            EXPECT(args.workspace_bytes ==
                       DescribedBounds(optional, types, p.sizes, p.sizes, p.sizes).workspace(create(0, optional)),
                   "workspace of %zu bytes", args.workspace_bytes);
            EXPECT(!args.delta_softplus, "softplus");
        }
    }
    EXPECT(Problem(kAll, kTypes[0], {2, 3, 4, 5}, true, 1).enqueue(create(1, kAll), stream) == 0, "softplus");
    EXPECT(fake.args.delta_softplus, "no softplus");
}

void failures_of_the_kernel_are_reported() {
    const std::vector<std::pair<metst::cuda::Status, const char*>> answers = {
        {metst::cuda::Status::kBadSize, "(2,3,4,5) failed: a size is out of range"},
        {metst::cuda::Status::kNullPointer, "has no memory"},
        {metst::cuda::Status::kUnsupported, "not compiled in"},
        {metst::cuda::Status::kWorkspaceTooSmall, "workspace is too small"},
        {metst::cuda::Status::kCudaError, "CUDA refused the launch"},
        {static_cast<metst::cuda::Status>(99), "unknown status"}};
    const Plugin plugin = create(1, kAll);
    Problem p(kAll, kTypes[0], {2, 3, 4, 5}, true, 1);
    for (const auto& [status, part] : answers) {
        library.fake->answer = status;
        EXPECT_REFUSED(p.enqueue(plugin, nullptr) != 0, part);
    }
    library.fake->answer = metst::cuda::Status::kOk;
    p.workspace = nullptr;
    EXPECT_REFUSED(p.enqueue(plugin, nullptr) != 0, "workspace is too small");
    const int before = library.fake->calls;
    ++p.described.in[3].dims.d[2];
    EXPECT_REFUSED(p.enqueue(plugin, nullptr) != 0, "input B has the shape (2,3,6), expected (B,L,N) = (2,3,5)");
    EXPECT(library.fake->calls == before, "the kernel was called with shapes that do not fit");
}

#ifdef METST_TEST_CUDA
bool has_gpu() {
    int devices = 0;
    return cudaGetDeviceCount(&devices) == cudaSuccess && devices > 0;
}

void enqueue_is_captured_and_replayed(cudaStream_t stream) {
    for (Sizes sizes : {Sizes{2, 1, 128, 64}, Sizes{2, 50, 128, 64}, Sizes{1, 2048, 32, 64}}) {
        Problem p(kAll, kTypes[0], sizes, true, 7);
        const Plugin plugin = create(1, kAll);
        EXPECT(p.described.accepted_by(plugin), "shapes");
        cudaGraph_t graph = nullptr;
        cudaGraphExec_t executable = nullptr;
        EXPECT(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal) == cudaSuccess, "begin");
        EXPECT(p.enqueue(plugin, stream) == 0, "enqueue");
        EXPECT(cudaStreamEndCapture(stream, &graph) == cudaSuccess && graph != nullptr, "end");
        if (graph == nullptr) return;
        EXPECT(cudaGraphInstantiateWithFlags(&executable, graph, 0) == cudaSuccess, "instantiate");
        for (int i = 0; i < 2; ++i) EXPECT(cudaGraphLaunch(executable, stream) == cudaSuccess, "launch %d", i);
        EXPECT(cudaStreamSynchronize(stream) == cudaSuccess, "replay");
        cudaGraphExecDestroy(executable);
        cudaGraphDestroy(graph);
        expect_matches_reference(p, "replayed");
    }
}
#endif

}  // namespace

void test_enqueue_on_the_host() {
    every_input_reaches_the_kernel(nullptr);
    the_kernel_is_called_once_with_tensorrts_own_pointers();
    failures_of_the_kernel_are_reported();
}

bool test_enqueue_on_the_gpu() {
#ifdef METST_TEST_CUDA
    if (!has_gpu()) return false;
    cudaStream_t stream = nullptr;
    EXPECT(cudaStreamCreate(&stream) == cudaSuccess, "stream");
    every_input_reaches_the_kernel(stream);
    enqueue_is_captured_and_replayed(stream);
    cudaStreamDestroy(stream);
    return true;
#else
    return false;
#endif
}
