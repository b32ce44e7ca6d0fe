// Rectangles of pixels, on the host and on the device.
#pragma once

#include <cmath>

#include "metst/roi_flow.h"

#ifdef __CUDACC__
#define METST_HOST_DEVICE __host__ __device__
#else
#define METST_HOST_DEVICE
#endif

namespace metst {

// The part of a rectangle that lies in a picture.
METST_HOST_DEVICE inline Rect inside(const Rect& rect, int height, int width) {
    return {rect.top > 0 ? rect.top : 0, rect.bottom < height ? rect.bottom : height, rect.left > 0 ? rect.left : 0,
            rect.right < width ? rect.right : width};
}

METST_HOST_DEVICE inline int clamped(int i, int low, int high) {
    const int raised = i > low ? i : low;
    return raised < high ? raised : high;
}

// Where the crop box goes after the head has moved by so many pixels of the crop.
METST_HOST_DEVICE inline Rect moved(const Rect& box, const double* motion, bool compat, int height, int width) {
    if (!compat) {
        const double down = motion[1] * (box.bottom - box.top) / RoiFlow::kCropSize;
        const double right = motion[0] * (box.right - box.left) / RoiFlow::kCropSize;
        const int dy = clamped(static_cast<int>(nearbyint(down)), -box.top, height - box.bottom);
        const int dx = clamped(static_cast<int>(nearbyint(right)), -box.left, width - box.right);
        return {box.top + dy, box.bottom + dy, box.left + dx, box.right + dx};
    }
    // The published code takes crop pixels for picture pixels, stops the near sides at the picture's edge and lets
    // the far ones run past it, so that what is left is stretched; it ends in an error when nothing is left.
    const int dx = static_cast<int>(nearbyint(motion[0]));
    const int dy = static_cast<int>(nearbyint(motion[1]));
    const int top = box.top + dy, left = box.left + dx;
    const Rect next = {top > 0 ? top : 0, box.bottom + dy, left > 0 ? left : 0, box.right + dx};
    const Rect seen = inside(next, height, width);
    return seen.top < seen.bottom && seen.left < seen.right ? next : box;
}

}  // namespace metst
