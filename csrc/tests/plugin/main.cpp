// Drives the TensorRT plugin through its interfaces as TensorRT would, without TensorRT: a library is loaded, its
// creator found, and everything below goes through that.
//
//   test_plugin LIBRARY CONTRACT.json
//
// With the library that has the fake of the kernel, enqueue is checked on the host. With the real one it is checked on
// the GPU; where there is none the process ends with 77 (skipped) once everything else has passed.
#include <cstdio>

#include "driver.h"
#include "expect.h"
#include "tests.h"

int main(int argc, char** argv) {
    if (argc != 3) {
        std::printf("usage: test_plugin LIBRARY CONTRACT.json\n");
        return 2;
    }
    if (!load(argv[1])) return 1;
    test_attributes();
    test_types_and_shapes();
    test_contract(argv[2]);
    bool ran = true;
    if (library.fake != nullptr) {
        test_enqueue_on_the_host();
    } else {
        ran = test_enqueue_on_the_gpu();
    }
    EXPECT(logger.messages.empty(), "a message that nothing explains: %s", logger.messages.front().c_str());
    if (failures == 0 && !ran) {
        std::printf("no GPU: enqueue was not run, the rest passed\n");
        return 77;  // skipped
    }
    std::printf(failures == 0 ? "passed\n" : "%d failures\n", failures);
    return failures == 0 ? 0 : 1;
}
