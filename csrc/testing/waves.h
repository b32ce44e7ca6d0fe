// Gray pictures whose motion is known.
#pragma once

#include <cmath>
#include <cstdint>
#include <random>

// Waves that have moved by (dx, dy) pixels, and noise: height x width pixels.
inline void draw_waves(int height, int width, double dx, double dy, unsigned seed, std::uint8_t* pixels) {
    std::mt19937 random(seed);
    for (int y = 0; y < height; ++y) {
        for (int x = 0; x < width; ++x) {
            const double u = x - dx, v = y - dy;
            const double gray = 128 + 50 * std::sin(0.3 * u + 0.1 * v) + 40 * std::sin(0.25 * v - 0.05 * u) +
                                20 * std::sin(0.9 * u + 0.7 * v) + static_cast<double>(random() % 3);
            pixels[y * width + x] = static_cast<std::uint8_t>(gray);
        }
    }
}
