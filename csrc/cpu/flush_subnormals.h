// While alive, arithmetic on this thread reads and writes subnormal floats as zero; the previous mode is put back
// after. A state that fades towards zero would otherwise drop into subnormal numbers, which cost many CPUs over 100
// cycles each.
#pragma once

#if defined(__x86_64__)
#include <xmmintrin.h>
#elif defined(__aarch64__)
#include <cstdint>
#endif

namespace metst {

class FlushSubnormals {
public:
    FlushSubnormals() : previous_(read()) { write(previous_ | kFlush); }
    ~FlushSubnormals() { write(previous_); }
    FlushSubnormals(const FlushSubnormals&) = delete;
    FlushSubnormals& operator=(const FlushSubnormals&) = delete;

private:
#if defined(__x86_64__)
    using Mode = unsigned;
    static constexpr Mode kFlush = 0x8040;  // MXCSR: flush to zero, subnormals are zeros
    static Mode read() { return _mm_getcsr(); }
    static void write(Mode mode) { _mm_setcsr(mode); }
#elif defined(__aarch64__)
    using Mode = std::uint64_t;
    static constexpr Mode kFlush = Mode{1} << 24;  // FPCR.FZ
    static Mode read() {
        Mode mode;
        __asm__ volatile("mrs %0, fpcr" : "=r"(mode));
        return mode;
    }
    static void write(Mode mode) { __asm__ volatile("msr fpcr, %0" : : "r"(mode)); }
#else
    using Mode = unsigned;
    static constexpr Mode kFlush = 0;
    static Mode read() { return 0; }
    static void write(Mode) {}
#endif

    Mode previous_;
};

}  // namespace metst
