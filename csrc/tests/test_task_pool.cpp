// Tasks on threads: each runs once, and what it wrote is there when the call returns. Nothing here orders anything, so
// that the thread sanitizer sees it where the pool itself does not order a task's work before its caller's.
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdio>
#include <thread>
#include <vector>

#include "expect.h"
#include "task_pool.h"

namespace {

struct Work {
    std::vector<int> runs;
    int first = 0;
    int together = 1;          // tasks wait until so many are under way
    std::atomic<int> here{0};  // relaxed: it must order nothing

    explicit Work(int count) : runs(static_cast<std::size_t>(count)) {}

    static void task(void* context, int i) {
        Work& work = *static_cast<Work*>(context);
        work.here.fetch_add(1, std::memory_order_relaxed);
        while (work.here.load(std::memory_order_relaxed) < work.together) std::this_thread::yield();
        work.runs[static_cast<std::size_t>(i)] += work.first + i;
    }
    // Every task has run so many times, with what the caller had written before each call.
    void expect(int calls, const char* what) const {
        for (std::size_t i = 0; i < runs.size(); ++i) {
            const int expected = calls * (calls - 1) / 2 + calls * static_cast<int>(i);
            EXPECT(runs[i] == expected, "%s: task %zu of %zu: %d, not %d", what, i, runs.size(), runs[i], expected);
        }
    }
};

// `together`: so many of the threads take part for certain, all of them at the same time.
void calls(int count, int threads, int times, const char* what, int together = 1) {
    Work work(count);
    work.together = together;
    for (int call = 0; call < times; ++call) {
        work.first = call;
        work.here = 0;
        metst::run_tasks(Work::task, &work, count, threads);
    }
    work.expect(times, what);
}

void every_task_runs_once_and_is_done_when_the_call_returns() {
    for (int threads = 1; threads <= 5; ++threads) {
        for (int count : {0, 1, 2, 3, 7, 40}) calls(count, threads, 200, "one caller");
    }
}

void every_thread_takes_part_when_tasks_take_long() {
    for (int threads = 2; threads <= 4; ++threads) {
        for (int count : {threads, 2 * threads + 1}) calls(count, threads, 100, "all threads", threads);
    }
}

// Workers sleep by now and have to be woken.
void the_pool_works_after_a_pause() {
    for (int i = 0; i < 5; ++i) {
        std::this_thread::sleep_for(std::chrono::milliseconds(2));
        calls(8, 3, 2, "after a pause", 3);
    }
}

// One of them has the pool, the others do their work alone.
void callers_on_threads_each_get_their_work_done() {
    std::vector<std::thread> callers;
    for (int i = 0; i < 4; ++i) callers.emplace_back([] { calls(9, 3, 300, "several callers"); });
    for (std::thread& caller : callers) caller.join();
}

// Whichever thread it is thrown on: the caller gets it, after all that was begun is done, and the pool goes on.
void what_a_task_throws_is_thrown_to_the_caller() {
    struct Failing {
        std::atomic<int> begun{0}, done{0};
        int bad = 0;

        static void task(void* context, int i) {
            Failing& self = *static_cast<Failing*>(context);
            self.begun.fetch_add(1);
            std::this_thread::sleep_for(std::chrono::microseconds(200));
            self.done.fetch_add(1);
            if (i >= self.bad) throw i;
        }
    };
    for (int threads = 1; threads <= 4; ++threads) {
        for (int bad : {0, 3, 7}) {
            Failing failing;
            failing.bad = bad;
            int caught = -1;
            try {
                metst::run_tasks(Failing::task, &failing, 8, threads);
            } catch (int thrown) {
                caught = thrown;
            }
            EXPECT(caught >= bad, "%d threads, bad from %d: %d", threads, bad, caught);
            EXPECT(failing.begun == failing.done, "%d threads: some were still under way", threads);
            calls(7, threads, 20, "after a failure");
        }
    }
}

// The pool's threads are not there in the child; it must not wait for them.
void a_child_works_alone() {
    calls(8, 4, 2, "the parent");
    std::fflush(stdout);
    const pid_t child = fork();
    if (child == 0) {
        const int before = failures;
        calls(8, 4, 2, "the child");
        std::fflush(stdout);
        _exit(failures != before);
    }
    int status = 0;
    waitpid(child, &status, 0);
    EXPECT(WIFEXITED(status) && WEXITSTATUS(status) == 0, "status %d", status);
}

}  // namespace

int main() {
    every_task_runs_once_and_is_done_when_the_call_returns();
    every_thread_takes_part_when_tasks_take_long();
    the_pool_works_after_a_pause();
    callers_on_threads_each_get_their_work_done();
    what_a_task_throws_is_thrown_to_the_caller();
    a_child_works_alone();
    std::printf("%d failures\n", failures);
    return failures != 0;
}
