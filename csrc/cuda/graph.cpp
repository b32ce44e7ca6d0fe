#include <dlfcn.h>

#include "metst/cuda_graph.h"

namespace metst::cuda {

namespace {

// CU_STREAM_CAPTURE_MODE_THREAD_LOCAL: another engine may allocate in another thread meanwhile.
constexpr int kThreadLocal = 1;

template <class Function>
bool look_up(void* library, const char* name, Function& function) {
    function = reinterpret_cast<Function>(dlsym(library, name));
    return function != nullptr;
}

struct Loaded {
    GraphDriver driver{};
    bool complete = false;

    Loaded() {
        void* library = dlopen("libcuda.so.1", RTLD_NOW | RTLD_LOCAL);  // stays loaded
        if (library == nullptr) return;
        complete = look_up(library, "cuStreamBeginCapture_v2", driver.cuStreamBeginCapture_v2) &&
                   look_up(library, "cuStreamEndCapture", driver.cuStreamEndCapture) &&
                   look_up(library, "cuGraphInstantiateWithFlags", driver.cuGraphInstantiateWithFlags) &&
                   look_up(library, "cuGraphLaunch", driver.cuGraphLaunch) &&
                   look_up(library, "cuGraphExecDestroy", driver.cuGraphExecDestroy) &&
                   look_up(library, "cuGraphDestroy", driver.cuGraphDestroy) &&
                   look_up(library, "cuGetErrorString", driver.cuGetErrorString);
    }
};

}  // namespace

const GraphDriver* graph_driver() noexcept {
    static const Loaded loaded;
    return loaded.complete ? &loaded.driver : nullptr;
}

int Graph::begin(CUstream_st* stream) noexcept {
    if (recorded_ != nullptr) return kRecording;
    close();
    const int status = driver_.cuStreamBeginCapture_v2(stream, kThreadLocal);
    if (status == 0) recorded_ = stream;
    return status;
}

int Graph::end() noexcept {
    if (recorded_ == nullptr) return kNothingRecorded;
    CUgraph_st* graph = nullptr;
    int status = driver_.cuStreamEndCapture(recorded_, &graph);
    recorded_ = nullptr;
    if (graph == nullptr) return status != 0 ? status : kNothingRecorded;
    if (status == 0) status = driver_.cuGraphInstantiateWithFlags(&executable_, graph, 0);
    if (status != 0) executable_ = nullptr;
    driver_.cuGraphDestroy(graph);  // the executable has a copy
    return status;
}

int Graph::launch(CUstream_st* stream) const noexcept {
    if (executable_ == nullptr) return kNothingRecorded;
    return driver_.cuGraphLaunch(executable_, stream);
}

void Graph::close() noexcept {
    if (recorded_ != nullptr) end();
    if (executable_ != nullptr) driver_.cuGraphExecDestroy(executable_);
    executable_ = nullptr;
}

const char* Graph::text(int status) const noexcept {
    if (status == kNothingRecorded) return "nothing is recorded";
    if (status == kRecording) return "a recording is under way";
    const char* text = nullptr;
    return driver_.cuGetErrorString(status, &text) == 0 && text != nullptr ? text : "unknown error";
}

}  // namespace metst::cuda
