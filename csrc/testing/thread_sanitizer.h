// What the thread sanitizer is spared: it sees nothing in work on one thread, and takes ten times as long for it.
#pragma once

#ifdef __SANITIZE_THREAD__
inline constexpr bool kThreadsOnly = true;
#else
inline constexpr bool kThreadsOnly = false;
#endif
