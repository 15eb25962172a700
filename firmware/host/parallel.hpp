// Work shared out among threads.
#pragma once

#include <atomic>
#include <cstddef>
#include <exception>
#include <system_error>
#include <thread>
#include <vector>

namespace zob {

// Call make() once a thread, then what it returns with every number below n, each once, in any order. Threads that
// cannot be had are done without.
template <class Make>
void share_out(size_t n, unsigned threads, Make make) {
    std::atomic<size_t> next{0};
    std::exception_ptr failure;
    std::atomic_flag failed = ATOMIC_FLAG_INIT;
    const auto work = [&] {
        try {
            auto each = make();
            for (size_t i = next++; i < n; i = next++) each(i);
        } catch (...) {
            if (!failed.test_and_set()) failure = std::current_exception();
        }
    };
    std::vector<std::thread> others;
    for (size_t k = 1; k < threads && k < n; k++) {
        try {
            others.emplace_back(work);
        } catch (const std::system_error &) {
            break;
        }
    }
    work();
    for (auto &thread : others) thread.join();
    if (failure) std::rethrow_exception(failure);
}

}  // namespace zob
