#include "task_pool.h"

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <exception>
#include <mutex>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

#if defined(__unix__)
#include <unistd.h>
#endif

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace metst {
namespace {

void pause_briefly() {
#if defined(__x86_64__)
    _mm_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

// A frame has two phases a fraction of a millisecond apart; waking a thread costs 50 microseconds or more, so a worker
// looks for the next phase this long before it sleeps.
constexpr auto kSpin = std::chrono::microseconds(60);

class TaskPool {
public:
    ~TaskPool() {
        {
            const std::lock_guard<std::mutex> lock(mutex_);
            ending_ = true;
        }
        wake_.notify_all();
        for (std::thread& worker : workers_) worker.join();
    }

    void run(void (*task)(void*, int), void* context, int count, int threads) {
        grow(threads - 1);
        {
            // A worker that is still leaving the last call must not see this one's tasks half written.
            const std::lock_guard<std::mutex> lock(mutex_);
            task_ = task;
            context_ = context;
            count_ = count;
            next_.store(0, std::memory_order_relaxed);
            failure_ = nullptr;
            open_ = threads - 1;
            generation_.fetch_add(1, std::memory_order_release);
        }
        wake_.notify_all();
        take(task, context, count);
        {
            const std::lock_guard<std::mutex> lock(mutex_);
            open_ = 0;  // who has not come by now need not
        }
        while (busy_.load(std::memory_order_acquire) > 0) pause_briefly();
        if (failure_) std::rethrow_exception(std::exchange(failure_, nullptr));
    }

private:
    // Fewer workers, or none, will do as well.
    void grow(int workers) {
        try {
            while (static_cast<int>(workers_.size()) < workers) workers_.emplace_back([this] { work(); });
        } catch (const std::system_error&) {  // this process may not have more
        } catch (const std::bad_alloc&) {
        }
    }

    void take(void (*task)(void*, int), void* context, int count) noexcept {
        try {
            for (int i = next_.fetch_add(1, std::memory_order_relaxed); i < count;
                 i = next_.fetch_add(1, std::memory_order_relaxed)) {
                task(context, i);
            }
        } catch (...) {
            next_.store(count, std::memory_order_relaxed);
            const std::lock_guard<std::mutex> lock(mutex_);
            if (!failure_) failure_ = std::current_exception();
        }
    }

    void work() {
        unsigned seen = 0;
        while (true) {
            const auto end = std::chrono::steady_clock::now() + kSpin;
            while (generation_.load(std::memory_order_acquire) == seen && std::chrono::steady_clock::now() < end) {
                pause_briefly();
            }
            void (*task)(void*, int) = nullptr;
            void* context = nullptr;
            int count = 0;
            {
                std::unique_lock<std::mutex> lock(mutex_);
                wake_.wait(lock, [&] { return ending_ || generation_.load(std::memory_order_relaxed) != seen; });
                if (ending_) return;
                seen = generation_.load(std::memory_order_relaxed);
                if (open_ == 0) continue;
                --open_;
                busy_.fetch_add(1, std::memory_order_relaxed);
                task = task_;
                context = context_;
                count = count_;
            }
            take(task, context, count);
            busy_.fetch_sub(1, std::memory_order_release);
        }
    }

    std::vector<std::thread> workers_;
    std::mutex mutex_;
    std::condition_variable wake_;
    bool ending_ = false;
    int open_ = 0;  // how many more workers may join the current call
    void (*task_)(void*, int) = nullptr;
    void* context_ = nullptr;
    int count_ = 0;
    std::exception_ptr failure_;
    std::atomic<unsigned> generation_{0};
    std::atomic<int> next_{0};
    std::atomic<int> busy_{0};
};

// Never destroyed: at exit its threads may be gone already, and there is nothing to save.
TaskPool& pool() {
    static TaskPool* const only = new TaskPool;
    return *only;
}

std::mutex& in_use() {
    static std::mutex* const only = new std::mutex;
    return *only;
}

bool forked() {
#if defined(__unix__)
    static const pid_t first = getpid();
    return getpid() != first;
#else
    return false;
#endif
}

}  // namespace

void run_tasks(void (*task)(void* context, int i), void* context, int count, int threads) {
    if (threads > count) threads = count;
    if (threads > 1 && !forked()) {
        const std::unique_lock<std::mutex> lock(in_use(), std::try_to_lock);
        if (lock.owns_lock()) {
            pool().run(task, context, count, threads);
            return;
        }
    }
    for (int i = 0; i < count; ++i) task(context, i);
}

}  // namespace metst
