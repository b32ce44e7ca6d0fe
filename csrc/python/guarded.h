// What Python can do to an object that C++ cannot: call a method of one whose __init__ never ran (Class.__new__(Class)),
// or of one that another thread is in, which has let go of the interpreter's lock.
#pragma once

#include <pybind11/pybind11.h>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <new>
#include <string>

namespace metst::python {

namespace py = pybind11;

// The base of such classes. Methods begin with expect_made(), those that change anything with a Use.
class Guarded {
public:
    // pybind11 takes memory for an object whose method is called before its constructor: zeros, so that it shows.
    static void* operator new(std::size_t size) {
        void* const memory = ::operator new(size);
        std::memset(memory, 0, size);
        return memory;
    }
    static void* operator new(std::size_t, void* place) { return place; }
    static void operator delete(void* memory) { ::operator delete(memory); }

    Guarded(const Guarded&) = delete;
    Guarded& operator=(const Guarded&) = delete;

    void expect_made() const {
        if (made_ != kMade) {
            throw py::type_error("expected an object that was made by calling its class, got one of __new__ alone");
        }
    }

    // One thread at a time; taken while it has the interpreter's lock, kept without it.
    class Use {
    public:
        Use(const Guarded& object, const char* name) : busy_(object.busy_) {
            object.expect_made();
            if (busy_.exchange(true, std::memory_order_acquire)) {
                const py::object error = py::module_::import("metst_edge.errors").attr("StateError");
                const std::string text = std::string("expected one call of a ") + name +
                                         " at a time, got one while another was under way; make one for each thread";
                const py::object raised = error(text, "busy");
                PyErr_SetObject(error.ptr(), raised.ptr());
                throw py::error_already_set();
            }
        }
        ~Use() { busy_.store(false, std::memory_order_release); }
        Use(const Use&) = delete;
        Use& operator=(const Use&) = delete;

    private:
        std::atomic<bool>& busy_;
    };

protected:
    Guarded() = default;
    ~Guarded() = default;

private:
    static constexpr std::uint64_t kMade = 0x6d657473742d6564;

    const std::uint64_t made_ = kMade;
    mutable std::atomic<bool> busy_{false};
};

}  // namespace metst::python
