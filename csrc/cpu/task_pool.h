// A few threads that wait for the independent tasks of one call.
#pragma once

#include <cstddef>

namespace metst {

// Runs task(context, i) for every i below `count`, in order of taking, on the calling thread and up to threads - 1
// others; returns when all are done. What a task throws is thrown here, once all that were begun are done; of several
// the first. Others may then not have been begun. When another thread is in here, or after a fork, the
// calling thread does the work alone.
void run_tasks(void (*task)(void* context, int i), void* context, int count, int threads);

}  // namespace metst
