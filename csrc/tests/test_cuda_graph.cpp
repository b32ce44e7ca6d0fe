// Recording and launching.
//
//   test_cuda_graph        with a fake of the driver that counts what is alive
//   test_cuda_graph gpu    with the driver of this machine; ends with 77 (skipped) where there is no GPU
#include <dlfcn.h>

#include <cstdint>
#include <cstring>
#include <string>
#include <tuple>
#include <type_traits>
#include <vector>

#include "expect.h"
#include "metst/cuda_graph.h"

#if __has_include(<cuda.h>)
#include <cuda.h>
#endif

using metst::cuda::Graph;
using metst::cuda::GraphDriver;

namespace {

constexpr int kSkipped = 77;

#ifdef CUDA_VERSION
// The declarations agree with the driver's own: the same types, but for enumerations, which are ints to a caller.
template <class T>
using Plain = typename std::conditional_t<std::is_enum_v<T>, std::common_type<int>, std::common_type<T>>::type;
template <class Result, class... Arguments>
std::tuple<Plain<Result>, Plain<Arguments>...> signature(Result (*)(Arguments...));
#define SAME(name) \
    static_assert(std::is_same_v<decltype(signature(GraphDriver{}.name)), decltype(signature(&::name))>, #name)
SAME(cuStreamEndCapture);
SAME(cuGraphInstantiateWithFlags);
SAME(cuGraphLaunch);
SAME(cuGraphExecDestroy);
SAME(cuGraphDestroy);
SAME(cuGetErrorString);
static_assert(std::is_same_v<decltype(signature(GraphDriver{}.cuStreamBeginCapture_v2)),
                             decltype(signature(&::cuStreamBeginCapture))>);  // cuda.h makes this name the _v2
static_assert(CU_STREAM_CAPTURE_MODE_THREAD_LOCAL == 1 && CUDA_SUCCESS == 0);
#endif

struct Fake {
    std::vector<std::string> calls;
    std::string failing;  // name of the call that returns kFailure
    bool gives_graph = true;
    int graphs = 0, executables = 0;
    bool capturing = false;
} fake;

constexpr int kFailure = 901;  // CUDA_ERROR_STREAM_CAPTURE_INVALIDATED
CUstream_st* const kStream = reinterpret_cast<CUstream_st*>(std::uintptr_t{0x51});
CUstream_st* const kOther = reinterpret_cast<CUstream_st*>(std::uintptr_t{0x52});
CUgraph_st* const kGraph = reinterpret_cast<CUgraph_st*>(std::uintptr_t{0x61});
CUgraphExec_st* const kExecutable = reinterpret_cast<CUgraphExec_st*>(std::uintptr_t{0x71});

int called(const char* name) {
    fake.calls.emplace_back(name);
    return fake.failing == name ? kFailure : 0;
}

int begin_capture(CUstream_st* stream, int mode) {
    EXPECT(stream == kStream && mode == 1, "mode %d", mode);
    const int status = called("begin");
    fake.capturing = status == 0;
    return status;
}

int end_capture(CUstream_st* stream, CUgraph_st** graph) {
    EXPECT(stream == kStream && fake.capturing, "not the stream that is recorded");
    fake.capturing = false;
    *graph = fake.gives_graph ? kGraph : nullptr;
    fake.graphs += fake.gives_graph ? 1 : 0;
    return called("end");
}

int instantiate(CUgraphExec_st** executable, CUgraph_st* graph, unsigned long long flags) {
    EXPECT(graph == kGraph && fake.graphs == 1 && flags == 0, "flags %llu", flags);
    const int status = called("instantiate");
    *executable = kExecutable;  // even when it fails: it must not be used then
    fake.executables += status == 0 ? 1 : 0;
    return status;
}

int launch(CUgraphExec_st* executable, CUstream_st* stream) {
    EXPECT(executable == kExecutable && fake.executables == 1, "an executable that is none");
    EXPECT(stream == kStream || stream == kOther, "a stream that is none");
    return called("launch");
}

int destroy_executable(CUgraphExec_st* executable) {
    EXPECT(executable == kExecutable, "an executable that is none");
    --fake.executables;
    return called("destroy executable");
}

int destroy_graph(CUgraph_st* graph) {
    EXPECT(graph == kGraph, "a graph that is none");
    --fake.graphs;
    return called("destroy graph");
}

int error_string(int error, const char** text) {
    if (error != kFailure) return 1;
    *text = "invalidated";
    return 0;
}

const GraphDriver kFake = {begin_capture,      end_capture,   instantiate, launch,
                           destroy_executable, destroy_graph, error_string};

void nothing_left(const char* what) {
    EXPECT(fake.graphs == 0 && fake.executables == 0 && !fake.capturing, "%s: %d graphs, %d executables", what,
           fake.graphs, fake.executables);
}

void test_what_is_recorded_is_launched_until_it_is_recorded_anew() {
    fake = Fake();
    {
        Graph graph(kFake);
        EXPECT(graph.launch(kStream) == Graph::kNothingRecorded && graph.end() == Graph::kNothingRecorded, "too early");
        EXPECT(std::strcmp(graph.text(Graph::kNothingRecorded), "nothing is recorded") == 0, "text");
        for (int time = 0; time < 2; ++time) {
            EXPECT(graph.begin(kStream) == 0, "begin");
            EXPECT(graph.begin(kStream) == Graph::kRecording, "twice");
            EXPECT(graph.launch(kStream) == Graph::kNothingRecorded, "while it is recorded");
            EXPECT(graph.end() == 0, "end");
            EXPECT(graph.launch(kStream) == 0 && graph.launch(kOther) == 0, "launch");
            EXPECT(fake.graphs == 0 && fake.executables == 1, "%d graphs", fake.graphs);
        }
    }
    nothing_left("recorded twice");
    const std::vector<std::string> once = {"begin",  "end",    "instantiate",       "destroy graph",
                                           "launch", "launch", "destroy executable"};
    std::vector<std::string> expected = once;
    expected.insert(expected.end(), once.begin(), once.end());
    EXPECT(fake.calls == expected, "%d calls", static_cast<int>(fake.calls.size()));
}

void test_a_failure_is_returned_and_leaves_nothing() {
    for (const char* failing : {"begin", "end", "instantiate", "no graph"}) {
        fake = Fake();
        fake.failing = failing;
        fake.gives_graph = std::strcmp(failing, "no graph") != 0;
        Graph graph(kFake);
        int status = graph.begin(kStream);
        if (status == 0) status = graph.end();
        EXPECT(status == (fake.gives_graph ? kFailure : Graph::kNothingRecorded), "%s: %d", failing, status);
        if (status > 0) EXPECT(std::strcmp(graph.text(status), "invalidated") == 0, "%s", graph.text(status));
        EXPECT(graph.launch(kStream) == Graph::kNothingRecorded, "%s: launched all the same", failing);
        nothing_left(failing);
        fake.failing.clear();
        fake.gives_graph = true;
        EXPECT(graph.begin(kStream) == 0 && graph.end() == 0 && graph.launch(kStream) == 0, "%s: never again", failing);
    }
    nothing_left("after failures");
    fake = Fake();
    fake.failing = "launch";
    Graph graph(kFake);
    EXPECT(graph.begin(kStream) == 0 && graph.end() == 0 && graph.launch(kStream) == kFailure, "launch");
    EXPECT(std::strcmp(graph.text(12345), "unknown error") == 0, "%s", graph.text(12345));
}

void test_a_recording_under_way_is_ended_with_its_owner() {
    fake = Fake();
    {
        Graph graph(kFake);
        EXPECT(graph.begin(kStream) == 0, "begin");
    }
    nothing_left("ended while recording");
    {
        Graph graph(kFake);
        EXPECT(graph.begin(kStream) == 0 && graph.end() == 0, "recorded");
        graph.close();
        nothing_left("closed");
        graph.close();
    }
    nothing_left("closed twice");
}

// The rest of the driver that a test on a GPU needs.
struct RealDriver {
    int (*cuInit)(unsigned);
    int (*cuDeviceGet)(int*, int);
    int (*cuDevicePrimaryCtxRetain)(void**, int);
    int (*cuCtxSetCurrent)(void*);
    int (*cuStreamCreate)(CUstream_st**, unsigned);
    int (*cuStreamSynchronize)(CUstream_st*);
    int (*cuMemAlloc_v2)(std::uintptr_t*, std::size_t);
    int (*cuMemAllocHost_v2)(void**, std::size_t);
    int (*cuMemsetD8Async)(std::uintptr_t, unsigned char, std::size_t, CUstream_st*);
    int (*cuMemcpyHtoDAsync_v2)(std::uintptr_t, const void*, std::size_t, CUstream_st*);
    int (*cuMemcpyDtoHAsync_v2)(void*, std::uintptr_t, std::size_t, CUstream_st*);
};

template <class Function>
void find(void* library, const char* name, Function& function) {
    function = reinterpret_cast<Function>(dlsym(library, name));
    EXPECT(function != nullptr, "libcuda has no %s", name);
}

// Returns whether there is a GPU.
bool test_a_graph_on_the_gpu_copies_what_is_there_when_it_is_launched() {
    const GraphDriver* graphs = metst::cuda::graph_driver();
    void* library = dlopen("libcuda.so.1", RTLD_NOW | RTLD_LOCAL);
    if (graphs == nullptr || library == nullptr) return false;
    RealDriver driver{};
#define FIND(name) find(library, #name, driver.name)
    FIND(cuInit);
    FIND(cuDeviceGet);
    FIND(cuDevicePrimaryCtxRetain);
    FIND(cuCtxSetCurrent);
    FIND(cuStreamCreate);
    FIND(cuStreamSynchronize);
    FIND(cuMemAlloc_v2);
    FIND(cuMemAllocHost_v2);
    FIND(cuMemsetD8Async);
    FIND(cuMemcpyHtoDAsync_v2);
    FIND(cuMemcpyDtoHAsync_v2);
    int device = 0;
    if (driver.cuInit(0) != 0 || driver.cuDeviceGet(&device, 0) != 0) return false;
    void* context = nullptr;
    CUstream_st* stream = nullptr;
    std::uintptr_t memory = 0;
    void* host = nullptr;
    constexpr std::size_t kBytes = 64;
    EXPECT(driver.cuDevicePrimaryCtxRetain(&context, device) == 0 && driver.cuCtxSetCurrent(context) == 0, "context");
    EXPECT(driver.cuStreamCreate(&stream, 1) == 0, "stream");
    EXPECT(driver.cuMemAlloc_v2(&memory, kBytes) == 0 && driver.cuMemAllocHost_v2(&host, 2 * kBytes) == 0, "memory");
    if (failures != 0) return true;
    char* const sent = static_cast<char*>(host);
    char* const received = sent + kBytes;
    std::memset(sent, 0, 2 * kBytes);

    Graph graph(*graphs);
    EXPECT(graph.begin(stream) == 0, "begin");
    EXPECT(driver.cuMemcpyHtoDAsync_v2(memory, sent, kBytes, stream) == 0, "up");
    EXPECT(driver.cuMemcpyDtoHAsync_v2(received, memory, kBytes, stream) == 0, "down");
    const int status = graph.end();
    EXPECT(status == 0, "%s", graph.text(status));
    for (char value = 1; value < 4; ++value) {
        sent[0] = value;
        EXPECT(received[0] == value - 1, "run before it was launched");
        EXPECT(graph.launch(stream) == 0 && driver.cuStreamSynchronize(stream) == 0, "launch");
        EXPECT(received[0] == value, "got %d", received[0]);
    }
    EXPECT(graph.begin(stream) == 0, "begin");
    EXPECT(driver.cuStreamSynchronize(stream) != 0, "waiting for what is recorded was allowed");
    EXPECT(graph.end() > 0 && graph.launch(stream) == Graph::kNothingRecorded, "a recording that is invalid was taken");
    EXPECT(driver.cuStreamSynchronize(stream) == 0, "the stream does not work after it");
    return true;
}

}  // namespace

int main(int arguments, char** argument) {
    if (arguments == 2 && std::strcmp(argument[1], "gpu") == 0) {
        if (!test_a_graph_on_the_gpu_copies_what_is_there_when_it_is_launched()) {
            std::printf("no GPU here\n");
            return kSkipped;
        }
    } else {
        test_what_is_recorded_is_launched_until_it_is_recorded_anew();
        test_a_failure_is_returned_and_leaves_nothing();
        test_a_recording_under_way_is_ended_with_its_owner();
    }
    if (failures == 0) std::printf("ok\n");
    return failures == 0 ? 0 : 1;
}
