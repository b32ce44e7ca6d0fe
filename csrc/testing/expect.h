// A check that counts: a failed one is printed and the test goes on, so that one run shows all of them.
#pragma once

#include <cstdio>

inline int failures = 0;

#define EXPECT(condition, ...)                                          \
    do {                                                                \
        if (!(condition)) {                                             \
            std::printf("%s:%d: %s  ", __FILE__, __LINE__, #condition); \
            std::printf(__VA_ARGS__);                                   \
            std::printf("\n");                                          \
            ++failures;                                                 \
        }                                                               \
    } while (false)
